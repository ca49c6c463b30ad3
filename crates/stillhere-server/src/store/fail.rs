//! Points at which a test can end the process or make the disk fail. In a shipped program they are nothing: they exist
//! in this crate's own tests and with the feature `failpoints`.
//!
//! Twenty lines of our own instead of the crate `fail`, which has had no release for years and would bring another
//! generator of random numbers.

use super::base::Kept;

#[cfg(any(test, feature = "failpoints"))]
pub(super) use armed::set;

/// Passes the point of that name: a test may end the process here.
pub(super) fn pass(point: &'static str) {
    // An error has no meaning here.
    let _ = may_break(point);
}

/// Passes the point of that name, or fails as a test wants it to.
pub(super) fn may_break(point: &'static str) -> Kept<()> {
    #[cfg(any(test, feature = "failpoints"))]
    return armed::reach(point);
    #[cfg(not(any(test, feature = "failpoints")))]
    {
        let _ = point;
        Ok(())
    }
}

#[cfg(any(test, feature = "failpoints"))]
mod armed {
    use std::collections::HashMap;
    use std::sync::{Arc, LazyLock, PoisonError, RwLock};

    use super::super::base::{Fault, FaultKind, Kept};

    /// What a point does; the failure it returns is the point's.
    type Act = Arc<dyn Fn() -> Option<FaultKind> + Send + Sync>;

    /// By name. `STILLHERE_FAILPOINTS=in-commit=broken,before-commit=full` sets some from outside.
    static POINTS: LazyLock<RwLock<HashMap<String, Act>>> = LazyLock::new(|| {
        let text = std::env::var("STILLHERE_FAILPOINTS").unwrap_or_default();
        let points = text.split(',').filter_map(|setting| {
            let (point, kind) = setting.split_once('=')?;
            let kind = if kind == "full" { FaultKind::Full } else { FaultKind::Broken };
            let act: Act = Arc::new(move || Some(kind));
            Some((point.to_owned(), act))
        });
        RwLock::new(points.collect())
    });

    /// From now on reaching `point`, anywhere in the process, does this.
    #[cfg_attr(not(test), allow(dead_code, reason = "only tests set points from inside"))]
    pub(in super::super) fn set(point: &str, act: impl Fn() -> Option<FaultKind> + Send + Sync + 'static) {
        POINTS.write().unwrap_or_else(PoisonError::into_inner).insert(point.to_owned(), Arc::new(act));
    }

    pub(super) fn reach(point: &str) -> Kept<()> {
        let act = POINTS.read().unwrap_or_else(PoisonError::into_inner).get(point).cloned();
        match act.and_then(|act| act()) {
            Some(kind) => Err(Fault::new(kind, format!("injected at {point}"))),
            None => Ok(()),
        }
    }
}
