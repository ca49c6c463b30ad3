//! The plans that come with the storm: one for each attack, and the tutorial's table.
