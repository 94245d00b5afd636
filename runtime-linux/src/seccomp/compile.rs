//! From a profile to classic BPF: a binary search over ranges of numbers for each architecture.
//!
//! Invariant: for one call, an unconditional rule wins over rules with conditions, which are tried in order; the
//! first match decides. Jumps that do not fit eight bits go through an unconditional jump.

use super::numbers::{N, NUMBERS};
use super::{Arg, Filter, Profile, ProfileError, Rule};
use crate::sys::Instruction;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RETURN: u16 = 0x06;

/// An architecture: the kernel's audit number, docker's name, and the column of the table.
pub(super) struct Arch {
    audit: u32,
    pub(super) name: &'static str,
    /// Its name to libseccomp.
    pub(super) scmp: &'static str,
    column: fn(&(&str, u32, u32, u32, u32)) -> u32,
}

#[cfg(target_arch = "x86_64")]
pub(super) const ARCHES: [Arch; 2] = [
    Arch { audit: 0xc000_003e, name: "amd64", scmp: "SCMP_ARCH_X86_64", column: |row| row.1 },
    Arch { audit: 0x4000_0003, name: "x86", scmp: "SCMP_ARCH_X86", column: |row| row.2 },
];
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHES: [Arch; 2] = [
    Arch { audit: 0xc000_00b7, name: "arm64", scmp: "SCMP_ARCH_AARCH64", column: |row| row.3 },
    Arch { audit: 0x4000_0028, name: "arm", scmp: "SCMP_ARCH_ARM", column: |row| row.4 },
];

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileError> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | (errno.unwrap_or(1) & 0xffff),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | (errno.unwrap_or(1) & 0xffff),
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        other => return Err(ProfileError::Action(other.to_owned())),
    })
}

fn older_than(wanted: &str) -> bool {
    let parse = |text: &str| {
        let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    parse(&rustix::system::uname().release().to_string_lossy()) < parse(wanted)
}

pub(super) fn applies(rule: &Rule, native: &str, caps: u64) -> bool {
    let has = |name: &String| crate::caps::number(name).is_some_and(|n| caps & 1 << n != 0);
    let arch = |name: &String| name == native;
    let Filter { caps: need, arches, min_kernel } = &rule.includes;
    need.iter().all(has)
        && (arches.is_empty() || arches.iter().any(arch))
        && !min_kernel.as_deref().is_some_and(older_than)
        && !rule.excludes.caps.iter().any(has)
        && !rule.excludes.arches.iter().any(arch)
        && rule.excludes.min_kernel.as_deref().is_none_or(older_than)
}

/// The code that ends in a decision about one call, or about a range of them.
fn leaf(rules: &[(&Rule, u32)], default: u32) -> Result<Vec<Instruction>, ProfileError> {
    if let Some((_, decision)) = rules.iter().find(|(rule, _)| rule.args.is_empty()) {
        return Ok(vec![op(RETURN, *decision)]);
    }
    let mut code = Vec::new();
    for (rule, decision) in rules {
        let mut tests = Vec::new();
        for arg in &rule.args {
            tests.push(test(arg)?);
        }
        // Every test falls through when it holds and jumps to its own end, patched below, when it does not.
        let total: usize = tests.iter().map(Vec::len).sum::<usize>() + 1;
        let mut at = 0;
        for mut piece in tests {
            for instruction in &mut piece {
                let here = at + 1;
                at += 1;
                let away = u8::try_from(total - here).map_err(|_| ProfileError::TooLong(total))?;
                if instruction.jt == FAIL {
                    instruction.jt = away;
                }
                if instruction.jf == FAIL {
                    instruction.jf = away;
                }
            }
            code.extend(piece);
        }
        code.push(op(RETURN, *decision));
    }
    code.push(op(RETURN, default));
    Ok(code)
}

/// A jump out of the rule, to be patched.
const FAIL: u8 = u8::MAX;

/// One comparison of a 64-bit argument, high word first.
fn test(arg: &Arg) -> Result<Vec<Instruction>, ProfileError> {
    let unknown = || ProfileError::Comparison(arg.op.clone());
    if arg.index > 5 {
        return Err(unknown());
    }
    let (low, high) = (16 + 8 * arg.index, 20 + 8 * arg.index);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
    let split = |value: u64| ((value >> 32) as u32, value as u32);
    let (value_high, value_low) = split(arg.value);
    let jump = |code, jt, jf, k| Instruction { code, jt, jf, k };
    Ok(match arg.op.as_str() {
        "SCMP_CMP_EQ" => {
            vec![op(LOAD, high), jump(JEQ, 0, FAIL, value_high), op(LOAD, low), jump(JEQ, 0, FAIL, value_low)]
        }
        "SCMP_CMP_NE" => {
            vec![op(LOAD, high), jump(JEQ, 0, 2, value_high), op(LOAD, low), jump(JEQ, FAIL, 0, value_low)]
        }
        "SCMP_CMP_MASKED_EQ" => {
            let (two_high, two_low) = split(arg.value_two);
            vec![
                op(LOAD, high),
                op(AND, value_high),
                jump(JEQ, 0, FAIL, two_high),
                op(LOAD, low),
                op(AND, value_low),
                jump(JEQ, 0, FAIL, two_low),
            ]
        }
        // high > v: done; high != v: fail; else the low words decide.
        "SCMP_CMP_GT" | "SCMP_CMP_GE" => vec![
            op(LOAD, high),
            jump(JGT, 3, 0, value_high),
            jump(JEQ, 0, FAIL, value_high),
            op(LOAD, low),
            jump(if arg.op == "SCMP_CMP_GT" { JGT } else { JGE }, 0, FAIL, value_low),
        ],
        "SCMP_CMP_LT" | "SCMP_CMP_LE" => vec![
            op(LOAD, high),
            jump(JGT, FAIL, 0, value_high),
            jump(JEQ, 0, 2, value_high),
            op(LOAD, low),
            jump(if arg.op == "SCMP_CMP_LT" { JGE } else { JGT }, FAIL, 0, value_low),
        ],
        _ => return Err(unknown()),
    })
}

/// Search among `ranges` (first number, code), which cover all numbers.
fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [(_, code)] = ranges {
        return code.clone();
    }
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let middle = right[0].0;
    let (left, right) = (search(left), search(right));
    let mut code = Vec::with_capacity(left.len() + right.len() + 2);
    if let Ok(over) = u8::try_from(left.len()) {
        code.push(Instruction { code: JGE, jt: over, jf: 0, k: middle });
    } else {
        code.push(Instruction { code: JGE, jt: 0, jf: 1, k: middle });
        code.push(op(JUMP, u32::try_from(left.len()).unwrap_or(u32::MAX)));
    }
    code.extend(left);
    code.extend(right);
    code
}

fn section(
    profile: &Profile,
    arch: &Arch,
    caps: u64,
    default: u32,
) -> Result<Vec<Instruction>, ProfileError> {
    let mut calls: std::collections::BTreeMap<u32, Vec<(&Rule, u32)>> = std::collections::BTreeMap::new();
    for rule in profile.syscalls.iter().filter(|rule| applies(rule, ARCHES[0].name, caps)) {
        let decision = action(&rule.action, rule.errno_ret.or(profile.default_errno_ret))?;
        let single = (!rule.name.is_empty()).then_some(&rule.name);
        for name in rule.names.iter().chain(single) {
            let Ok(row) = NUMBERS.binary_search_by(|row| row.0.cmp(name)) else { continue };
            let number = (arch.column)(&NUMBERS[row]);
            if number != N {
                calls.entry(number).or_default().push((rule, decision));
            }
        }
    }
    let deny = vec![op(RETURN, default)];
    let mut ranges = vec![(0, deny.clone())];
    let mut next = 0;
    for (number, rules) in calls {
        let code = leaf(&rules, default)?;
        for (first, code) in [(next, deny.clone()), (number, code)] {
            if first == next && next == number && first != number {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if last.1 == code => {}
                Some(last) if last.0 == first => last.1 = code,
                _ => ranges.push((first, code)),
            }
        }
        next = number + 1;
    }
    if ranges.last().is_some_and(|last| last.1 != deny) {
        ranges.push((next, deny));
    }
    // Ranges that became equal to their neighbour when their first code was replaced.
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    let mut code = vec![op(LOAD, 0)];
    code.extend(search(&ranges));
    Ok(code)
}

pub(super) fn capability_bits(capabilities: &[String]) -> u64 {
    capabilities.iter().filter_map(|name| crate::caps::number(name)).fold(0, |bits, n| bits | 1 << n)
}

pub(super) fn compile(profile: &Profile, capabilities: &[String]) -> Result<Vec<Instruction>, ProfileError> {
    let caps = capability_bits(capabilities);
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut code = vec![op(LOAD, 4)];
    for arch in &ARCHES {
        let body = section(profile, arch, caps, default)?;
        code.push(Instruction { code: JEQ, jt: 1, jf: 0, k: arch.audit });
        code.push(op(JUMP, u32::try_from(body.len()).unwrap_or(u32::MAX)));
        code.extend(body);
    }
    code.push(op(RETURN, 0x8000_0000)); // an architecture the profile says nothing about
    if code.len() > 4096 {
        return Err(ProfileError::TooLong(code.len()));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::super::default;
    use super::*;

    /// What the kernel would answer.
    fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [0_u8; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let i = program[at];
            at += 1;
            let go = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LOAD => a = u32::from_le_bytes(data[i.k as usize..i.k as usize + 4].try_into().unwrap()),
                AND => a &= i.k,
                JUMP => at += i.k as usize,
                JEQ => at += go(a == i.k),
                JGT => at += go(a > i.k),
                JGE => at += go(a >= i.k),
                RETURN => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;

    fn number(arch: &Arch, name: &str) -> u32 {
        (arch.column)(&NUMBERS[NUMBERS.binary_search_by(|row| row.0.cmp(name)).unwrap()])
    }

    fn docker(extra: &[&str]) -> Vec<Instruction> {
        let caps: Vec<String> = crate::caps::DEFAULT.iter().chain(extra).map(|&c| c.to_owned()).collect();
        compile(&default::profile(), &caps).unwrap()
    }

    #[test]
    fn names_are_sorted() {
        assert!(NUMBERS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn every_number_gets_what_the_profile_says() {
        let program = docker(&[]);
        for arch in &ARCHES {
            for nr in (0..600).chain([0x000f_0001, 0x4000_0000, u32::MAX]) {
                let names: Vec<_> = NUMBERS
                    .iter()
                    .filter(|row| nr != N && (arch.column)(row) == nr)
                    .map(|row| row.0)
                    .collect();
                let profile = default::profile();
                let mut allowed = false;
                for rule in
                    profile.syscalls.iter().filter(|r| r.names.iter().any(|n| names.contains(&n.as_str())))
                {
                    let caps = 0xa804_25fb;
                    allowed |= applies(rule, ARCHES[0].name, caps)
                        && rule.action == "SCMP_ACT_ALLOW"
                        && (rule.args.is_empty()
                            || names.iter().any(|n| ["socket", "personality", "clone"].contains(n)));
                }
                let got = run(&program, arch.audit, nr, [0; 6]);
                let expected = match (allowed, names.as_slice()) {
                    (true, _) => ALLOW,
                    (false, ["clone3"]) => 0x0005_0026,
                    _ => EPERM,
                };
                assert_eq!(got, expected, "{} {nr} {names:?}", arch.name);
            }
        }
    }

    #[test]
    fn arguments_decide() {
        let program = docker(&[]);
        let arch = &ARCHES[0];
        for (name, arg, expected) in [
            ("clone", 0x11, ALLOW),
            ("clone", 0x1000_0011, EPERM),
            ("clone", 0x0002_0000, EPERM),
            ("socket", 2, ALLOW),
            ("socket", 38, EPERM),
            ("socket", 39, ALLOW),
            ("socket", 40, EPERM),
            ("socket", 1 << 32, ALLOW),
            ("personality", 8, ALLOW),
            ("personality", 9, EPERM),
            ("personality", 0xffff_ffff, ALLOW),
            ("mount", 0, EPERM),
            ("bpf", 0, EPERM),
            ("unshare", 0, EPERM),
            ("keyctl", 0, EPERM),
            ("add_key", 0, EPERM),
            ("userfaultfd", 0, EPERM),
            ("io_uring_setup", 0, EPERM),
            ("kexec_load", 0, EPERM),
            ("ptrace", 0, ALLOW),
            ("chroot", 0, ALLOW),
            ("execve", 0, ALLOW),
        ] {
            assert_eq!(
                run(&program, arch.audit, number(arch, name), [arg, 0, 0, 0, 0, 0]),
                expected,
                "{name} {arg:#x}"
            );
        }
        let admin = docker(&["CAP_SYS_ADMIN"]);
        for name in ["mount", "clone3", "unshare", "setns"] {
            assert_eq!(run(&admin, arch.audit, number(arch, name), [0x1000_0000; 6]), ALLOW, "{name}");
        }
        assert_eq!(run(&program, 0x1234, 0, [0; 6]), 0x8000_0000, "foreign architecture");
        assert!(program.len() < 900, "{}", program.len());
    }

    #[test]
    fn comparisons_are_of_64_bits() {
        for (op, value, two, yes, no) in [
            ("EQ", 1_u64 << 32, 0, vec![1 << 32], vec![0, 1]),
            ("NE", 5, 0, vec![4, 1 << 32 | 5], vec![5]),
            ("GT", 1 << 32, 0, vec![u64::MAX, 1 << 32 | 1], vec![1 << 32, 9]),
            ("GE", 1 << 32, 0, vec![1 << 32, 1 << 33], vec![0xffff_ffff]),
            ("LT", 1 << 32, 0, vec![0xffff_ffff, 0], vec![1 << 32, 1 << 33]),
            ("LE", 1 << 32, 0, vec![1 << 32, 3], vec![1 << 32 | 1, 1 << 34]),
            ("MASKED_EQ", 0xf0, 0x10, vec![0x1f, 0x10], vec![0x20, 0]),
        ] {
            let json = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read","no_such_call"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":1,"value":{value},"valueTwo":{two},"op":"SCMP_CMP_{op}"}}],"includes":null}}]}}"#
            );
            let program = compile(&serde_json::from_str(&json).unwrap(), &[]).unwrap();
            let read = number(&ARCHES[0], "read");
            for (values, expected) in [(yes, ALLOW), (no, EPERM)] {
                for arg in values {
                    assert_eq!(
                        run(&program, ARCHES[0].audit, read, [0, arg, 0, 0, 0, 0]),
                        expected,
                        "{op} {arg:#x}"
                    );
                }
            }
        }
        assert!(serde_json::from_str::<Profile>("{}").is_err());
        let bad = r#"{"defaultAction":"NO"}"#;
        assert!(compile(&serde_json::from_str(bad).unwrap(), &[]).is_err());
    }
}
