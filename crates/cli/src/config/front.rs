//! What the configuration says about the front door.

use super::Config;
use crate::error::CliError;
use spawnery_gateway::Settings;

impl Config {
    /// How the front door is.
    pub(crate) fn front(&self) -> Result<Settings, CliError> {
        let items = |name| self.value(name).map(|value| value.items.clone()).unwrap_or_default();
        let networks = items("trusted_proxies").into_iter();
        // They were checked when they were read.
        let trusted = networks.filter_map(|text| text.parse().ok()).collect();
        Ok(Settings { trusted, ..Settings::default() })
    }
}
