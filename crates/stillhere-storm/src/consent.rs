//! Whether the target's owner agrees.
