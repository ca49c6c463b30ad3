//! The core as its users see it.

#[expect(unreachable_pub, reason = "the same file is the fuzz targets' library")]
#[path = "../../../../fuzz/src/lib.rs"]
mod checks;
mod corpus;
mod golden;
mod search;
