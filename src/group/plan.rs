//! Who needs whom. Pure.

use super::unknown;
use crate::error::{Error, ErrorKind, Result};

/// Of each server, by its place, what it needs, and when it is its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    members: Vec<Member>,
}

#[derive(Debug, PartialEq, Eq)]
struct Member {
    /// The places of those that it needs, all before its own.
    needs: Vec<usize>,
    level: usize,
}

impl Plan {
    /// For names, each with the names of those that it needs.
    pub(super) fn of(asked: &[(&str, &[String])]) -> Result<Plan> {
        let mut members: Vec<Member> = Vec::with_capacity(asked.len());
        for (place, (name, needs)) in asked.iter().enumerate() {
            let before = &asked[..place];
            if before.iter().any(|(other, _)| other == name) {
                let message = format!("two servers of the group have the name `{name}`");
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            let find = |needed: &String| {
                before.iter().position(|(other, _)| other == needed).ok_or_else(|| {
                    let names: Vec<_> = before.iter().map(|(other, _)| *other).collect();
                    unknown(
                        format_args!(
                            "`{name}` needs `{needed}`, which was not added before it; were: "
                        ),
                        &names,
                    )
                })
            };
            let needs = needs.iter().map(find).collect::<Result<Vec<usize>>>()?;
            let level = needs.iter().map(|&needed| members[needed].level + 1).max().unwrap_or(0);
            members.push(Member { needs, level });
        }
        Ok(Plan { members })
    }

    /// The places of those that the one at `place` needs.
    pub(super) fn needs(&self, place: usize) -> &[usize] {
        self.members.get(place).map_or(&[], |member| &member.needs)
    }

    /// How many others have to be up, one after the other, before the one at `place` can be.
    pub(super) fn level(&self, place: usize) -> usize {
        self.members.get(place).map_or(0, |member| member.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(asked: &[(&str, &[&str])]) -> Result<Plan> {
        let owned: Vec<(&str, Vec<String>)> = asked
            .iter()
            .map(|(name, needs)| (*name, needs.iter().copied().map(str::to_owned).collect()))
            .collect();
        Plan::of(&owned.iter().map(|(name, needs)| (*name, &needs[..])).collect::<Vec<_>>())
    }

    fn check(asked: &[(&str, &[&str])], levels: &[usize]) {
        let plan = plan(asked).expect("a plan");
        let found: Vec<_> = (0..asked.len()).map(|place| plan.level(place)).collect();
        assert_eq!(found, levels, "{asked:?}");
    }

    fn fails(asked: &[(&str, &[&str])], text: &str) {
        let error = plan(asked).expect_err("no plan");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn who_is_started_when() {
        check(&[], &[]);
        check(&[("a", &[]), ("b", &[])], &[0, 0]);
        check(&[("a", &[]), ("b", &["a"]), ("c", &["b", "a"]), ("d", &["a"])], &[0, 1, 2, 1]);
        let plan = plan(&[("a", &[]), ("b", &[]), ("c", &["b", "a"])]).expect("a plan");
        assert_eq!(plan.needs(2), [1, 0]);
        assert_eq!(plan.needs(9), [0; 0]);
    }

    #[test]
    fn what_makes_no_plan() {
        fails(&[("a", &[]), ("a", &[])], "two servers of the group have the name `a`");
        let text = "`a` needs `b`, which was not added before it; were: none";
        fails(&[("a", &["b"]), ("b", &[])], text);
        let text = "`c` needs `c`, which was not added before it; were: `a`, `b`";
        fails(&[("a", &[]), ("b", &[]), ("c", &["c"])], text);
    }
}
