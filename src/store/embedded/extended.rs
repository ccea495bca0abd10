//! Floating point as INCRBYFLOAT computes it: 64 bits of mantissa, as x86's `long double` has, read and printed as C's
//! `strtold` and `printf("%.17Lf")` do.
//!
//! Rust has no such type, and with `f64` a counter of money shows its rounding: 5.1 + 0.1 would come out as
//! 5.19999999999999929 and not as 5.2. So here is the little that is needed, exact in every bit: a decimal is turned into a
//! fraction of two big integers and rounded once, to even; a sum is computed exactly and rounded once.
//! Known difference: the nearest and the farthest ends of the range (beyond 10^±4931) are refused, not denormalised.

use std::cmp::Ordering;

/// Bits of the mantissa.
const MANTISSA: i64 = 64;

/// Exponents of the value's highest bit that the format has.
const HIGHEST: i64 = 16383;
const LOWEST: i64 = -16382;

/// Digits after the point.
const DECIMALS: usize = 17;

/// A finite number: `mantissa * 2^exponent`, the mantissa's highest bit set, or zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i64,
}

/// What a text may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Finite(Extended),
    /// It is read, and no sum with it is accepted.
    Infinite,
}

impl Extended {
    /// Plus zero.
    pub const ZERO: Extended = Extended { negative: false, mantissa: 0, exponent: 0 };

    /// The sum, rounded to even. None if it is too large.
    pub fn plus(self, other: Extended) -> Option<Extended> {
        let (large, small) = if self.order() >= other.order() { (self, other) } else { (other, self) };
        if small.mantissa == 0 {
            return Some(large);
        }
        // 64 bits below the larger one's mantissa and a sticky bit are enough to round right.
        let distance = large.exponent - small.exponent;
        let high = u128::from(large.mantissa) << 62;
        let low = shift_sticky(u128::from(small.mantissa) << 62, distance);
        let sum = if large.negative == small.negative { high + low } else { high - low };
        if sum == 0 {
            return Some(Extended::ZERO);
        }
        let sum = Big(vec![sum as u32, (sum >> 32) as u32, (sum >> 64) as u32, (sum >> 96) as u32]);
        round(large.negative, sum, large.exponent - 62, false)
    }

    /// By magnitude.
    fn order(self) -> (bool, i64, u64) {
        (self.mantissa != 0, self.exponent, self.mantissa)
    }

    /// Reads the whole of `text` as `strtold` does: decimal, hexadecimal or `inf`. None if it is none of
    /// these (Redis accepts no `nan`), or if the number is out of range.
    pub fn parse(text: &[u8]) -> Option<Parsed> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        match rest.to_ascii_lowercase().as_slice() {
            b"inf" | b"infinity" => Some(Parsed::Infinite),
            [b'0', b'x', hexadecimal @ ..] => parse_digits(negative, hexadecimal, 16).map(Parsed::Finite),
            decimal => parse_digits(negative, decimal, 10).map(Parsed::Finite),
        }
    }

    /// As `printf("%.17Lf")` prints it, trailing zeros cut.
    pub fn format(self) -> String {
        let (whole, decimals) = self.digits();
        let sign = if self.negative { "-" } else { "" };
        let printed = format!("{sign}{whole}.{decimals:0>DECIMALS$}");
        match printed.trim_end_matches('0').trim_end_matches('.') {
            "-0" => "0".to_string(),
            trimmed => trimmed.to_string(),
        }
    }

    fn digits(self) -> (String, String) {
        let scaled = Big::from(self.mantissa).times(&Big::power(10, DECIMALS));
        let scaled = match usize::try_from(self.exponent) {
            Ok(left) => scaled.shifted_left(left),
            Err(_) => scaled.shifted_right_to_even(self.exponent.unsigned_abs() as usize),
        };
        let digits = scaled.to_decimal();
        let digits = format!("{digits:0>width$}", width = DECIMALS + 1);
        let (whole, decimals) = digits.split_at(digits.len() - DECIMALS);
        (whole.to_string(), decimals.to_string())
    }
}

/// Shifts right; whatever falls out leaves its mark in the lowest bit.
fn shift_sticky(number: u128, by: i64) -> u128 {
    if by >= 128 {
        return u128::from(number != 0);
    }
    let lost = by > 0 && number << (128 - by) != 0;
    number >> by | u128::from(lost)
}

/// Digits of `base` with a point and an exponent (of ten, or of two behind `p` for hexadecimal ones).
fn parse_digits(negative: bool, text: &[u8], base: u32) -> Option<Extended> {
    let mark = if base == 16 { b'p' } else { b'e' };
    let (digits, exponent) = match text.iter().position(|&byte| byte == mark) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (mut number, mut count, mut behind, mut point) = (Big::from(0), 0, 0i64, false);
    for &byte in digits {
        if byte == b'.' && !point {
            point = true;
            continue;
        }
        number.push_digit(base, (byte as char).to_digit(base)?);
        count += 1;
        behind += i64::from(point);
    }
    if count == 0 {
        return None;
    }
    if number.is_zero() {
        return Some(Extended { negative, ..Extended::ZERO });
    }
    if base == 16 {
        return round(negative, number, exponent - 4 * behind, false);
    }
    from_decimal(negative, number, exponent - behind, count)
}

/// Far exponents are cut to where the result is out of range anyway.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent = 0i64;
    for digit in digits {
        exponent = (exponent * 10 + i64::from((*digit as char).to_digit(10)?)).min(1_000_000);
    }
    Some(if negative { -exponent } else { exponent })
}

fn from_decimal(negative: bool, number: Big, exponent: i64, count: i64) -> Option<Extended> {
    if !(-10_000..=10_000).contains(&(exponent + count)) {
        return None;
    }
    if exponent >= 0 {
        return round(negative, number.times(&Big::power(10, exponent as usize)), 0, false);
    }
    let divisor = Big::power(10, exponent.unsigned_abs() as usize);
    // So many bits more that the quotient has more than the mantissa needs.
    let shift = (divisor.bits() - number.bits()).max(0) + MANTISSA + 2;
    let (quotient, exact) = number.shifted_left(shift as usize).divided_by(&divisor);
    round(negative, quotient, -shift, !exact)
}

/// `number * 2^exponent`, and a little more if `sticky`, to 64 bits and to even.
fn round(negative: bool, number: Big, exponent: i64, sticky: bool) -> Option<Extended> {
    let excess = number.bits() - MANTISSA;
    let (mut mantissa, mut exponent) = (number.top_bits(), exponent + excess);
    if excess > 0 {
        let half = number.bit(excess - 1);
        let more = sticky || number.any_below(excess - 1);
        if half && (more || mantissa & 1 == 1) {
            let (next, carried) = mantissa.overflowing_add(1);
            mantissa = if carried { 1 << 63 } else { next };
            exponent += i64::from(carried);
        }
    }
    let highest = exponent + MANTISSA - 1;
    (LOWEST..=HIGHEST).contains(&highest).then_some(Extended { negative, mantissa, exponent })
}

/// A natural number of any size: digits of 32 bits, the lowest first, no zeros at the end.
#[derive(Clone, Debug)]
struct Big(Vec<u32>);

impl From<u64> for Big {
    fn from(number: u64) -> Self {
        Big(vec![number as u32, (number >> 32) as u32]).trimmed()
    }
}

impl Big {
    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn is_zero(&self) -> bool {
        self.bits() == 0
    }

    fn power(base: u32, exponent: usize) -> Big {
        let mut power = Big(vec![1]);
        (0..exponent).for_each(|_| power.push_digit(base, 0));
        power
    }

    /// `self * base + digit`.
    fn push_digit(&mut self, base: u32, digit: u32) {
        let mut carry = u64::from(digit);
        for word in &mut self.0 {
            carry += u64::from(*word) * u64::from(base);
            *word = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn times(&self, other: &Big) -> Big {
        let mut product = vec![0u32; self.0.len() + other.0.len()];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &b) in other.0.iter().enumerate() {
                carry += u64::from(a) * u64::from(b) + u64::from(product[i + j]);
                product[i + j] = carry as u32;
                carry >>= 32;
            }
            product[i + other.0.len()] = carry as u32;
        }
        Big(product).trimmed()
    }

    fn bits(&self) -> i64 {
        match self.0.iter().rposition(|&word| word != 0) {
            Some(last) => 32 * last as i64 + 32 - i64::from(self.0[last].leading_zeros()),
            None => 0,
        }
    }

    fn bit(&self, number: i64) -> bool {
        let word = self.0.get(number as usize / 32).copied().unwrap_or(0);
        word >> (number % 32) & 1 == 1
    }

    fn any_below(&self, number: i64) -> bool {
        (0..number).any(|bit| self.bit(bit))
    }

    /// The 64 highest bits, zeros behind the lowest if there are fewer.
    fn top_bits(&self) -> u64 {
        let highest = self.bits() - 1;
        (0..MANTISSA).fold(0, |top, down| top << 1 | u64::from(down <= highest && self.bit(highest - down)))
    }

    fn shifted_left(&self, by: usize) -> Big {
        let mut words = vec![0; by / 32];
        let (shift, mut carry) = (by % 32, 0u64);
        for &word in &self.0 {
            carry |= u64::from(word) << shift;
            words.push(carry as u32);
            carry >>= 32;
        }
        words.push(carry as u32);
        Big(words).trimmed()
    }

    fn shifted_right(&self, by: usize) -> Big {
        let words: Vec<u32> = self.0.get(by / 32..).unwrap_or(&[]).to_vec();
        let shift = by % 32;
        let next = |position: usize| u64::from(words.get(position + 1).copied().unwrap_or(0)) << 32;
        let shifted = words.iter().enumerate().map(|(at, &word)| ((next(at) | u64::from(word)) >> shift) as u32);
        Big(shifted.collect()).trimmed()
    }

    fn shifted_right_to_even(&self, by: usize) -> Big {
        let mut shifted = self.shifted_right(by);
        let half = by > 0 && self.bit(by as i64 - 1);
        if half && (self.any_below(by as i64 - 1) || shifted.bit(0)) {
            shifted.push_digit(1, 1);
        }
        shifted
    }

    /// The quotient, and whether nothing is left. Bit by bit: quotients here have little more than 64 bits.
    fn divided_by(&self, divisor: &Big) -> (Big, bool) {
        let steps = (self.bits() - divisor.bits()).max(0);
        let mut rest = self.clone();
        let mut quotient = vec![0u32; steps as usize / 32 + 1];
        for step in (0..=steps).rev() {
            let part = divisor.shifted_left(step as usize);
            if rest.compare(&part) != Ordering::Less {
                rest.subtract(&part);
                quotient[step as usize / 32] |= 1 << (step % 32);
            }
        }
        (Big(quotient).trimmed(), rest.is_zero())
    }

    fn compare(&self, other: &Big) -> Ordering {
        let by_size = self.bits().cmp(&other.bits());
        by_size.then_with(|| {
            let words = self.bits() as usize / 32 + 1;
            let word = |big: &Big, at: usize| big.0.get(at).copied().unwrap_or(0);
            (0..words)
                .rev()
                .map(|at| word(self, at).cmp(&word(other, at)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        })
    }

    /// Takes away what is not larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = 0i64;
        for (at, word) in self.0.iter_mut().enumerate() {
            let difference = i64::from(*word) - i64::from(other.0.get(at).copied().unwrap_or(0)) - borrow;
            borrow = i64::from(difference < 0);
            *word = difference as u32;
        }
    }

    fn to_decimal(&self) -> String {
        let (mut words, mut groups) = (self.0.clone(), Vec::new());
        while words.iter().any(|&word| word != 0) {
            let mut rest = 0u64;
            for word in words.iter_mut().rev() {
                let dividend = rest << 32 | u64::from(*word);
                *word = (dividend / 1_000_000_000) as u32;
                rest = dividend % 1_000_000_000;
            }
            groups.push(rest);
            while words.last() == Some(&0) {
                words.pop();
            }
        }
        let mut groups = groups.iter().rev();
        let first = groups.next().map_or(String::new(), u64::to_string);
        groups.fold(first, |digits, group| format!("{digits}{group:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finite(text: &str) -> Extended {
        match Extended::parse(text.as_bytes()) {
            Some(Parsed::Finite(number)) => number,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn sum(a: &str, b: &str) -> String {
        finite(a).plus(finite(b)).expect("in range").format()
    }

    #[test]
    fn sums_come_out_as_redis_prints_them() {
        let sums = [
            ("5.1", "0.1", "5.2"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("0", "0", "0"),
            ("-0.5", "0.5", "0"),
            ("3", "-5", "-2"),
            ("1e-17", "0", "0.00000000000000001"),
            ("1e-18", "0", "0"),
            ("0x10", "1", "17"),
            ("9007199254740993", "1", "9007199254740994"),
            ("0.1", "0.2", "0.3"),
            ("-1e-18", "0", "0"),
            ("1e20", "1", "100000000000000000000"),
        ];
        for (a, b, expected) in sums {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
            assert_eq!(sum(b, a), expected, "{b} + {a}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", ".", "-", "1e", "e5", "1.2.3", " 1", "1 ", "0x", "1e99999", "1e-99999", "--1", "1f", "infi"] {
            assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Extended::parse(b"-inf"), Some(Parsed::Infinite));
        assert_eq!(Extended::parse(b"NaN"), None);
    }

    #[test]
    fn doubles_survive() {
        fastrand::seed(2);
        for _ in 0..2000 {
            let number = (fastrand::f64() - 0.5) * 10f64.powi(fastrand::i32(0..15));
            let back: f64 = finite(&format!("{number:e}")).format().parse().expect("a number");
            assert!((back - number).abs() <= 1e-16, "{number} {back}");
        }
    }
}
