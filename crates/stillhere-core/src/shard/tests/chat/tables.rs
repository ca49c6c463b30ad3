//! One thing at a time.

use super::*;
