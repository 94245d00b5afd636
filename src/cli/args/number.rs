//! Sizes, durations and numbers, as Go's libraries read them.

use super::refused::Refused;

/// Bytes: `6m`, `1.5 GiB`, `1e9`. Units are of 1024, in either case, with or without `b` or `ib`.
pub fn size(text: &str) -> Result<u64, Refused> {
    let wrong = || Refused::text(format!("invalid size: '{text}'"));
    let digits = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits + 1);
    // One blank between the two, as docker has it.
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(wrong());
    }
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit == "ib" => return Err(wrong()),
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024_f64.powi(power);
    #[expect(clippy::cast_precision_loss, reason = "a bound")]
    if !bytes.is_finite() || bytes >= i64::MAX as f64 {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and not negative")]
    Ok(bytes as u64)
}

/// Bytes, or −1 for no limit.
pub fn swap(text: &str) -> Result<i64, Refused> {
    if text == "-1" { Ok(-1) } else { size(text).map(u64::cast_signed) }
}

/// A whole number, with Go's words for what is none.
pub fn int(text: &str) -> Result<i64, Refused> {
    integer(text, "ParseInt")
}

/// A whole number of 16 bits.
pub fn uint16(text: &str) -> Result<u16, Refused> {
    if text.starts_with(['-', '+']) {
        return Err(syntax(text, "ParseUint"));
    }
    let wide: i64 = integer(text, "ParseUint")?;
    u16::try_from(wide).map_err(|_| range(text, "ParseUint"))
}

fn integer(text: &str, name: &str) -> Result<i64, Refused> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        PosOverflow | NegOverflow => range(text, name),
        _ => syntax(text, name),
    })
}

fn syntax(text: &str, name: &str) -> Refused {
    Refused::text(format!("strconv.{name}: parsing {text:?}: invalid syntax"))
}

fn range(text: &str, name: &str) -> Refused {
    Refused::text(format!("strconv.{name}: parsing {text:?}: value out of range"))
}

/// Nanoseconds of a duration: `1h1m1.5s`, `300ms`. Negative ones are read, and refused by whoever knows the option.
pub fn duration(text: &str) -> Result<i64, Refused> {
    let invalid = || Refused::text(format!("time: invalid duration {text:?}"));
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: i128 = match unit {
            "" => return Err(Refused::text(format!("time: missing unit in duration {text:?}"))),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(Refused::text(format!("time: unknown unit {unit:?} in duration {text:?}"))),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let parse = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<i128>() };
        total += parse(whole).map_err(|_| invalid())?.checked_mul(scale).ok_or_else(invalid)?;
        let fraction = &fraction[..fraction.len().min(15)];
        let parts = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        total += parse(fraction).map_err(|_| invalid())? * scale / parts;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// Billionths of a processor: `1.5`, `.5`, `3/4`, `1e-3`.
pub fn cpus(text: &str) -> Result<i64, Refused> {
    let wrong = || Refused::text(format!("failed to parse {text} as a rational number"));
    let (above, below) = match text.split_once('/') {
        Some((above, below)) => {
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if !digits(above.trim_start_matches(['-', '+'])) || !digits(below) {
                return Err(wrong());
            }
            (above.parse::<i128>().map_err(|_| wrong())?, below.parse::<i128>().map_err(|_| wrong())?)
        }
        None => decimal(text).ok_or_else(wrong)?,
    };
    if below == 0 {
        return Err(wrong());
    }
    let nano = above.checked_mul(1_000_000_000).ok_or_else(wrong)?;
    if nano % below != 0 {
        return Err(Refused::text("value is too precise"));
    }
    i64::try_from(nano / below).map_err(|_| wrong())
}

/// A decimal number as a fraction.
fn decimal(text: &str) -> Option<(i128, i128)> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok().filter(|e| e.abs() < 20)?),
        None => (text, 0),
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let above: i128 = digits.parse().ok()?;
    let power = exponent - i32::try_from(fraction.len()).ok()?;
    let scale = 10_i128.checked_pow(power.unsigned_abs())?;
    let above = if negative { -above } else { above };
    if power < 0 { Some((above, scale)) } else { Some((above.checked_mul(scale)?, 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("6m", 6 << 20),
            ("6291456", 6_291_456),
            ("0", 0),
            ("1.5g", 3 << 29),
            ("1kb", 1024),
            ("10MiB", 10 << 20),
            ("10 m", 10 << 20),
            ("1e9", 1_000_000_000),
            ("1tb", 1 << 40),
            ("7B", 7),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["-1", "abc", "", "m", "1x", "1ib", "1 mm", "99999999999999999999p", " 1", "inf", "nan"] {
            assert_eq!(size(text).unwrap_err().to_string(), format!("invalid size: '{text}'"));
        }
        assert_eq!((swap("-1").unwrap(), swap("1k").unwrap()), (-1, 1024));
        assert_eq!(swap("-2").unwrap_err().to_string(), "invalid size: '-2'");
    }

    #[test]
    fn durations() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("5s", 5_000_000_000),
            ("0.5ms", 500_000),
            ("1us", 1_000),
            ("1h1m1.5s", 3_661_500_000_000),
            ("-5s", -5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
        ] {
            assert_eq!(duration(text).unwrap(), nanoseconds, "{text}");
        }
        for (text, message) in [
            ("5", "time: missing unit in duration \"5\""),
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            (".s", "time: invalid duration \".s\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("99999999999h", "time: invalid duration \"99999999999h\""),
        ] {
            assert_eq!(duration(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn processors() {
        for (text, nano) in [
            ("1.5", 1_500_000_000),
            ("0", 0),
            ("-1", -1_000_000_000),
            ("0.0001", 100_000),
            ("1e-3", 1_000_000),
            ("3/4", 750_000_000),
            (".5", 500_000_000),
        ] {
            assert_eq!(cpus(text).unwrap(), nano, "{text}");
        }
        for text in ["abc", "0.5x", "", "1/0", "/", ".", "1e999"] {
            assert_eq!(
                cpus(text).unwrap_err().to_string(),
                format!("failed to parse {text} as a rational number")
            );
        }
        assert_eq!(cpus("1.0000000001").unwrap_err().to_string(), "value is too precise");
    }

    #[test]
    fn numbers() {
        assert_eq!((int("-5").unwrap(), uint16("1000").unwrap()), (-5, 1000));
        for (message, text) in [
            ("strconv.ParseInt: parsing \"x\": invalid syntax", "x"),
            (
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
                "99999999999999999999",
            ),
        ] {
            assert_eq!(int(text).unwrap_err().to_string(), message);
        }
        for (message, text) in [
            ("strconv.ParseUint: parsing \"-1\": invalid syntax", "-1"),
            ("strconv.ParseUint: parsing \"65536\": value out of range", "65536"),
        ] {
            assert_eq!(uint16(text).unwrap_err().to_string(), message);
        }
    }
}
