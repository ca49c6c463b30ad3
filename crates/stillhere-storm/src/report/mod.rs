//! What samples mean: a summary with a verdict, and a page to look at.
