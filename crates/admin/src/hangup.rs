//! SIGHUP: the configuration file and the plugins' locations are read again.

use tokio::signal::unix::Signal;

use super::settings;
use super::state::Admin;

/// Does so at every signal, for as long as it is polled.
pub async fn follow_hangups(admin: Admin, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        settings::reread_file(admin.clone()).await;
        admin.plugins.reload_on_hangup().await;
    }
}
