//! Looking for a bound: doubling, then bisecting.
