//! The user of an image, looked up in its own files.

use spawnery_sandbox::limits::HOST_ID_COUNT;

use crate::store::ImageUser;

/// Most further groups of a user: `NGROUPS_MAX` of old kernels; more is a mistake.
const GROUPS_MAX: usize = 32;

/// Finds the ids of `USER` or `USER:GROUP`, each a name or a number, in the texts of
/// `/etc/passwd` and `/etc/group`.
pub(super) fn resolve(written: &str, passwd: &str, group: &str) -> Result<ImageUser, String> {
    let (user, group_written) = match written.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|it| !it.is_empty())),
        None => (written, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let lines = |text: &'_ str| {
        text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let users: Vec<Vec<String>> = lines(passwd);
    let all_groups: Vec<Vec<String>> = lines(group);
    let field = |line: &[String], at: usize| line.get(at).and_then(|it| it.parse::<u32>().ok());
    let named = users.iter().find(|line| line.first().is_some_and(|it| it == user));
    let number = user.parse::<u32>().ok();
    let line =
        named.or_else(|| users.iter().find(|line| number.is_some() && field(line, 2) == number));
    let uid = line.and_then(|line| field(line, 2)).or(number);
    let uid = uid.ok_or_else(|| format!("`{user}` is not in its /etc/passwd"))?;
    let gid = match group_written {
        None => line.and_then(|line| field(line, 3)).unwrap_or(0),
        Some(name) => all_groups
            .iter()
            .find(|line| line.first().is_some_and(|it| it == name))
            .and_then(|line| field(line, 2))
            .or_else(|| name.parse().ok())
            .ok_or_else(|| format!("the group `{name}` is not in its /etc/group"))?,
    };
    let member = line.and_then(|line| line.first());
    // Whoever names a group wants that one only.
    let groups = match (member, group_written) {
        (Some(member), None) => all_groups
            .iter()
            .filter(|line| {
                line.get(3).is_some_and(|members| members.split(',').any(|it| it == member))
            })
            .filter_map(|line| field(line, 2))
            .filter(|it| *it != gid && *it < HOST_ID_COUNT)
            .take(GROUPS_MAX)
            .collect(),
        _ => Vec::new(),
    };
    if uid >= HOST_ID_COUNT || gid >= HOST_ID_COUNT {
        return Err(format!("its ids {uid}:{gid} are beyond those of a sandbox, 65535"));
    }
    Ok(ImageUser { written: written.to_owned(), uid, gid, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34::/srv:/bin/false\nbroken\n";
        let group = "root:x:0:\nweb:x:34:\nlog:x:4:www,other\nhuge:x:99999:www\n";
        let check = |written: &str, uid: u32, gid: u32, groups: &[u32]| {
            let it = resolve(written, passwd, group).expect(written);
            assert_eq!((it.uid, it.gid, it.groups.as_slice()), (uid, gid, groups), "{written}");
            assert_eq!(it.written, written);
        };
        check("www", 33, 34, &[4]);
        check("33", 33, 34, &[4]);
        check("www:log", 33, 4, &[]);
        check("33:7", 33, 7, &[]);
        check("1000", 1000, 0, &[]);
        check("1000:1001", 1000, 1001, &[]);
        check(":web", 0, 34, &[]);
        for refused in ["nobody", "www:none", "70000", "1:70000", "-1"] {
            assert!(resolve(refused, passwd, group).is_err(), "{refused}");
        }
    }
}
