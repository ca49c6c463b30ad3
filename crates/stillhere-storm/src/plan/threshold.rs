//! What must hold: `p99 < 50ms`, `false_leaves = 0`, `rss_growth < 50MiB`.
