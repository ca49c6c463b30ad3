//! Plans in TOML.
