//! Plans, good and bad, and the page that describes them.
