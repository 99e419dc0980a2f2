//! Names that clients choose, checked where they come in, so that nothing behind keeps what is too long or
//! can't be stored.

use larder_core::name::{NameError, check_cache_salt, check_model_name, check_request_id};

use crate::error::{Fault, ValueError, invalid};
use crate::limits::SHORT_NAME_BYTES_MAX;
use crate::msgpack::Reader;

/// The name of a model.
pub(crate) fn model<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ValueError> {
    checked(reader, check_model_name)
}

/// The salt that separates a tenant's cache; empty for none.
pub(crate) fn cache_salt<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ValueError> {
    checked(reader, check_cache_salt)
}

/// The id of an engine's request.
pub(crate) fn request_id<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ValueError> {
    checked(reader, check_request_id)
}

/// A name out of a small set, such as a data type's.
pub(crate) fn short<'a>(reader: &mut Reader<'a>) -> Result<&'a str, ValueError> {
    let name = reader.str()?;
    if name.len() > SHORT_NAME_BYTES_MAX {
        return Err(Fault::TooLong { length: name.len(), limit: SHORT_NAME_BYTES_MAX }.here());
    }
    Ok(name)
}

fn checked<'a>(
    reader: &mut Reader<'a>,
    check: impl FnOnce(&str) -> Result<(), NameError>,
) -> Result<&'a str, ValueError> {
    let name = reader.str()?;
    check(name).map_err(|error| invalid(error.to_string()))?;
    Ok(name)
}
