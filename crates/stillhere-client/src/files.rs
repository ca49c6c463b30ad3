//! How many files, and so links, this process may open.

/// What a process has open beside its links: the standard streams, the poller, a resolver, and some spare.
const FILES_OWN: u64 = 32;

/// More links are wanted than the process may open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} links need more open files than this process may have ({limit}): use at most {} links, or raise the \
     limit with `ulimit -n`",
    limit.saturating_sub(FILES_OWN)
)]
pub struct TooFewFiles {
    /// The links.
    pub wanted: u64,
    /// The hard limit of open files.
    pub limit: u64,
}

/// Makes sure that this process may open `links` sockets, raising its soft limit of open files if the hard one allows.
/// On other systems than Unix there is no such limit to look at.
///
/// # Errors
/// When the hard limit is too small; nothing is changed then.
pub fn allow_files(links: u64) -> Result<(), TooFewFiles> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let needed = links.saturating_add(FILES_OWN);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current.is_none_or(|soft| needed <= soft) {
            return Ok(());
        }
        let raised = Rlimit { current: maximum, maximum };
        if maximum.is_none_or(|hard| needed <= hard) && setrlimit(Resource::Nofile, raised).is_ok() {
            return Ok(());
        }
        Err(TooFewFiles { wanted: links, limit: maximum.or(current).unwrap_or(u64::MAX) })
    }
    #[cfg(not(unix))]
    {
        let _ = links;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_links_are_always_allowed_and_too_many_get_advice() {
        assert_eq!(allow_files(10), Ok(()));
        let said = TooFewFiles { wanted: 20_000, limit: 20_000 }.to_string();
        assert!(said.contains("at most 19968 links") && said.contains("(20000)"), "{said}");
    }
}
