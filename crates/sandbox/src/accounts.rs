//! Users by name or number, looked up in the files of a root (`passwd(5)`, `group(5)`).

use crate::limits::{GROUPS_MAX, HOST_ID_COUNT};
use crate::spec::UserSpec;

/// A user of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The ids.
    pub user: UserSpec,
    /// The name, or the number where the root does not know it.
    pub name: String,
    /// The home folder; `/` where the root knows none.
    pub home: String,
}

/// Finds the ids of `USER` or `USER:GROUP`, each a name or a number, in the texts of
/// `/etc/passwd` and `/etc/group`. The error says what is not there.
pub fn resolve(written: &str, passwd: &str, group: &str) -> Result<Account, String> {
    let (user, group_written) = match written.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|it| !it.is_empty())),
        None => (written, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let (users, all_groups) = (fields(passwd), fields(group));
    let number = user.parse::<u32>().ok();
    let named = users.iter().find(|line| line.first() == Some(&user));
    let line =
        named.or_else(|| users.iter().find(|line| number.is_some() && id(line, 2) == number));
    let uid = line.and_then(|line| id(line, 2)).or(number);
    let uid = uid.ok_or_else(|| format!("`{user}` is not in its /etc/passwd"))?;
    let gid = match group_written {
        None => line.and_then(|line| id(line, 3)).unwrap_or(0),
        Some(name) => all_groups
            .iter()
            .find(|line| line.first() == Some(&name))
            .and_then(|line| id(line, 2))
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("the group `{name}` is not in its /etc/group"))?,
    };
    if uid >= HOST_ID_COUNT || gid >= HOST_ID_COUNT {
        return Err(format!("its ids {uid}:{gid} are beyond those of a sandbox, 65535"));
    }
    let member = line.and_then(|line| line.first());
    // Whoever names a group wants that one only.
    let groups = match (member, group_written) {
        (Some(member), None) => all_groups
            .iter()
            .filter(|line| line.get(3).is_some_and(|all| all.split(',').any(|it| it == *member)))
            .filter_map(|line| id(line, 2))
            .filter(|it| *it != gid && *it < HOST_ID_COUNT)
            .take(GROUPS_MAX)
            .collect(),
        _ => Vec::new(),
    };
    let home = line.and_then(|line| line.get(5)).filter(|home| home.starts_with('/'));
    Ok(Account {
        user: UserSpec { uid, gid, groups },
        name: member.map_or_else(|| uid.to_string(), |name| (*name).to_owned()),
        home: home.map_or("/", |home| home).to_owned(),
    })
}

fn fields(text: &str) -> Vec<Vec<&str>> {
    // A NUL cannot be part of a name, and would not pass into an environment.
    text.lines().filter(|line| !line.contains('\0')).map(|it| it.split(':').collect()).collect()
}

fn id(line: &[&str], at: usize) -> Option<u32> {
    line.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv:/bin/false\nbroken\n\
            rel:x:5:5::home:/x\n";
        let group = "root:x:0:\nweb:x:34:\nlog:x:4:www,other\nhuge:x:99999:www\n";
        let check = |written: &str, ids: (u32, u32), groups: &[u32], named: (&str, &str)| {
            let it = resolve(written, passwd, group).expect(written);
            assert_eq!((it.user.uid, it.user.gid), ids, "{written}");
            assert_eq!(it.user.groups, groups, "{written}");
            assert_eq!((it.name.as_str(), it.home.as_str()), named, "{written}");
        };
        check("www", (33, 34), &[4], ("www", "/srv"));
        check("33", (33, 34), &[4], ("www", "/srv"));
        check("www:log", (33, 4), &[], ("www", "/srv"));
        check("33:7", (33, 7), &[], ("www", "/srv"));
        check("1000", (1000, 0), &[], ("1000", "/"));
        check("1000:1001", (1000, 1001), &[], ("1000", "/"));
        check(":web", (0, 34), &[], ("root", "/root"));
        check("rel", (5, 5), &[], ("rel", "/"));
        for refused in ["nobody", "www:none", "70000", "1:70000", "-1"] {
            assert!(resolve(refused, passwd, group).is_err(), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_gives_no_id_beyond_those_of_a_sandbox(
            written in "[a-z0-9:]{0,9}", passwd in "[a-c0-9:,/\n\0]{0,99}", group in "[a-c0-9:,\n]{0,99}",
        ) {
            if let Ok(found) = resolve(&written, &passwd, &group) {
                prop_assert!(found.user.uid < HOST_ID_COUNT && found.user.gid < HOST_ID_COUNT);
                prop_assert!(found.home.starts_with('/') && !found.home.contains('\0'));
            }
        }
    }
}
