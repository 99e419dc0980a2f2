//! What operators choose among by a word. A word is read once, where it is given; behind that is the choice.

/// A choice, its words in the order in which help lists them.
macro_rules! choice {
    ($(#[$doc:meta])+ $Choice:ident { $($(#[$means:meta])+ $Case:ident = $word:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Choice {
            $($(#[$means])+ $Case,)+
        }

        impl $Choice {
            /// Every word.
            pub const WORDS: &[&'static str] = &[$($word),+];

            /// What this word stands for; `None` for one that is not among [`Self::WORDS`].
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$Case),)+
                    _ => None,
                }
            }

            /// The word as typed.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Case => $word,)+
                }
            }
        }
    };
}

choice! {
    /// What checksums are used for (`--checksum`).
    ChecksumMode {
        /// Nothing is hashed.
        Off = "off",
        /// Objects are checked whenever they go to or come from outside memory.
        Tiers = "tiers",
        /// Objects are also checked before a worker may read them.
        Full = "full",
    }
}

choice! {
    /// What happens to an object in memory once every adapter holds it (`--l2-store-policy`).
    StorePolicy {
        /// It stays.
        Default = "default",
        /// It goes.
        SkipL1 = "skip_l1",
    }
}

choice! {
    /// Whether objects read from L2 stay in memory after use (`--l2-prefetch-policy`).
    PrefetchPolicy {
        /// As the eviction policy has it.
        Default = "default",
        /// They do.
        Retain = "retain",
    }
}

choice! {
    /// The hash that names chunks, as `--hash-algorithm` spells it.
    HashName {
        /// BLAKE3.
        Blake3 = "blake3",
        /// The hash of vLLM's own prefix cache.
        Sha256Cbor = "sha256_cbor",
        /// Its older spelling.
        Sha256Cbor64Bit = "sha256_cbor_64bit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_that_of_its_choice() {
        for word in HashName::WORDS {
            assert_eq!(HashName::parse(word).map(HashName::as_str), Some(*word));
        }
        assert_eq!(ChecksumMode::parse("full"), Some(ChecksumMode::Full));
        assert_eq!((StorePolicy::parse("SKIP_L1"), HashName::parse("builtin")), (None, None));
    }
}
