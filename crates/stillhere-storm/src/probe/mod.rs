//! What can be seen of the target and of the storm itself.
