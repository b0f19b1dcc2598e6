//! Decoding one codeword: the algebra, without I/O.
//!
//! A codeword is a polynomial whose value is 0 at the first `roots` powers of the generator. Its byte `row` is the coefficient of
//! `x^(254 - row)`, so that a wrong byte adds `error * X^j` to the value at the generator's power `j`, where `X = 2^(254 - row)`
//! is the byte's *locator*. These values are the *syndromes*.

use super::field::{inverse, multiply, power};
use super::layout::{CODEWORD, Roots};

/// The most parity bytes of a codeword.
const MOST: usize = Roots::MAX.get();

/// The coefficients of a polynomial, the constant first.
type Polynomial = [u8; MOST + 1];

fn locator(row: usize) -> u8 {
    power(CODEWORD - 1 - row)
}

/// For each of the first `wanted` of the `erased` rows, the factor by which each row goes into it: the row is the sum of the products.
/// The factors of erased rows are 0.
///
/// The first `erased.len()` syndromes of what is left are the moments of what was erased; solved by Lagrange's polynomials.
pub(super) fn weights(erased: &[usize], wanted: usize) -> Vec<[u8; CODEWORD]> {
    let product = |skip: usize, at: u8| {
        let others = erased.iter().filter(|&&other| other != skip);
        others.fold(1, |product, &other| multiply(product, at ^ locator(other)))
    };
    let mut weights = vec![[0; CODEWORD]; wanted];
    for row in (0..CODEWORD).filter(|row| !erased.contains(row)) {
        // No row is its own `skip`: the product over all, of which each weight leaves one out.
        let all = product(CODEWORD, locator(row));
        for (weights, &missing) in weights.iter_mut().zip(erased) {
            weights[row] = multiply(all, inverse(locator(row) ^ locator(missing)));
        }
    }
    for (weights, &missing) in weights.iter_mut().zip(erased) {
        let scale = inverse(product(missing, locator(missing)));
        weights.iter_mut().for_each(|weight| *weight = multiply(*weight, scale));
    }
    weights
}

/// Finds errors in codewords with the same erased rows.
pub(super) struct Corrector {
    roots: usize,
    erased: Vec<usize>,
    /// The product of `1 - X x` over the erased rows' locators.
    erasures: Polynomial,
}

/// The rows of a codeword that are wrong, and what to add to each.
#[derive(Default)]
pub(super) struct Correction {
    count: usize,
    rows: [usize; MOST],
    differences: [u8; MOST],
}

impl Correction {
    /// What to add to the byte of `row`: 0 where that is right.
    pub(super) fn of(&self, row: usize) -> u8 {
        self.iter().find_map(|(wrong, difference)| (wrong == row).then_some(difference)).unwrap_or(0)
    }

    /// The rows, and what to add to each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u8)> {
        self.rows[..self.count].iter().copied().zip(self.differences)
    }

    fn push(&mut self, row: usize) {
        self.rows[self.count] = row;
        self.count += 1;
    }
}

impl Corrector {
    /// For codewords of which `erased` rows (at most `roots`) are known to be wrong.
    pub(super) fn new(roots: Roots, erased: &[usize]) -> Self {
        let mut erasures = [0; MOST + 1];
        erasures[0] = 1;
        for (degree, &row) in erased.iter().enumerate() {
            for index in (0..=degree).rev() {
                erasures[index + 1] ^= multiply(erasures[index], locator(row));
            }
        }
        Self { roots: roots.get(), erased: erased.to_vec(), erasures }
    }

    /// Finds the error of each erased row, and up to `(roots - erased) / 2` other rows with theirs. `None` if there are more.
    pub(super) fn correct(&self, syndromes: &[u8]) -> Option<Correction> {
        let mut correction = Correction::default();
        self.erased.iter().for_each(|&row| correction.push(row));
        let errors = self.error_locator(syndromes)?;
        let degree = errors.iter().rposition(|&coefficient| coefficient != 0).unwrap_or(0);
        if degree > 0 {
            let is_root = |&row: &usize| value(&errors[..=degree], inverse(locator(row))) == 0;
            let rows = (0..CODEWORD).filter(|row| !self.erased.contains(row)).filter(is_root);
            rows.take(degree).for_each(|row| correction.push(row));
            if correction.count != self.erased.len() + degree {
                return None;
            }
        }
        self.differences(syndromes, &errors, &mut correction);
        Some(correction)
    }

    /// The polynomial whose roots are the inverse locators of the unknown errors, by Berlekamp and Massey.
    fn error_locator(&self, syndromes: &[u8]) -> Option<Polynomial> {
        let known = self.erased.len();
        // What the syndromes are without the erasures' share.
        let rest = product(syndromes, &self.erasures, self.roots);
        let rest = &rest[known..self.roots];
        let (mut current, mut previous) = ([0; MOST + 1], [0; MOST + 1]);
        current[0] = 1;
        previous[0] = 1;
        let (mut length, mut gap, mut last) = (0, 1, 1);
        for index in 0..rest.len() {
            let discrepancy =
                (0..=length).fold(0, |sum, term| sum ^ multiply(current[term], rest[index - term]));
            if discrepancy == 0 {
                gap += 1;
                continue;
            }
            let before = current;
            let factor = multiply(discrepancy, inverse(last));
            for (target, &coefficient) in current[gap..].iter_mut().zip(&previous) {
                *target ^= multiply(factor, coefficient);
            }
            if 2 * length <= index {
                length = index + 1 - length;
                previous = before;
                last = discrepancy;
                gap = 1;
            } else {
                gap += 1;
            }
        }
        let degree = current.iter().rposition(|&coefficient| coefficient != 0);
        (2 * length <= rest.len() && degree == Some(length)).then_some(current)
    }

    /// What is wrong at each place, by Forney.
    fn differences(&self, syndromes: &[u8], errors: &Polynomial, correction: &mut Correction) {
        let places = product(&self.erasures, errors, MOST + 1);
        let evaluator = product(syndromes, &places, self.roots);
        // Of the formal derivative only the odd terms are left.
        let mut derivative = [0; MOST + 1];
        for index in (1..places.len()).step_by(2) {
            derivative[index - 1] = places[index];
        }
        for index in 0..correction.count {
            let locator = locator(correction.rows[index]);
            let at = inverse(locator);
            let quotient = multiply(value(&evaluator, at), inverse(value(&derivative, at)));
            correction.differences[index] = multiply(locator, quotient);
        }
    }
}

/// The first `terms` terms of a product.
fn product(a: &[u8], b: &[u8], terms: usize) -> Polynomial {
    let mut product = [0; MOST + 1];
    for (index, &a) in a.iter().enumerate().filter(|&(_, &a)| a != 0) {
        for (target, &b) in product[..terms].iter_mut().skip(index).zip(b) {
            *target ^= multiply(a, b);
        }
    }
    product
}

/// The value of a polynomial.
fn value(polynomial: &[u8], at: u8) -> u8 {
    polynomial.iter().rev().fold(0, |sum, &coefficient| multiply(sum, at) ^ coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that look random, from a seed.
    struct Noise(u64);

    impl Noise {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % bound
        }

        fn not_zero(&mut self) -> u8 {
            u8::try_from(1 + self.below(255)).unwrap()
        }

        fn rows(&mut self, count: usize) -> Vec<usize> {
            let mut rows = Vec::new();
            while rows.len() < count {
                let row = self.below(CODEWORD);
                if !rows.contains(&row) {
                    rows.push(row);
                }
            }
            rows
        }
    }

    /// A random message with its parity, found as what was erased.
    fn codeword(roots: Roots, noise: &mut Noise) -> Vec<u8> {
        let mut codeword: Vec<u8> = (0..CODEWORD).map(|_| noise.not_zero()).collect();
        let parity: Vec<usize> = (roots.message()..CODEWORD).collect();
        fill_in(&mut codeword, &parity);
        assert_eq!(syndromes(roots, &codeword), vec![0; roots.get()], "no codeword");
        codeword
    }

    fn fill_in(codeword: &mut [u8], erased: &[usize]) {
        let filled: Vec<u8> = weights(erased, erased.len())
            .iter()
            .map(|weights| {
                weights.iter().zip(&*codeword).fold(0, |sum, (&weight, &byte)| sum ^ multiply(weight, byte))
            })
            .collect();
        erased.iter().zip(filled).for_each(|(&row, byte)| codeword[row] = byte);
    }

    fn syndromes(roots: Roots, codeword: &[u8]) -> Vec<u8> {
        (0..roots.get())
            .map(|point| codeword.iter().fold(0, |sum, &byte| multiply(sum, power(point)) ^ byte))
            .collect()
    }

    #[test]
    fn as_many_erasures_as_there_are_parity_bytes_are_filled_in() {
        let mut noise = Noise(1);
        for roots in 2..=24 {
            let roots = Roots::new(roots).unwrap();
            let right = codeword(roots, &mut noise);
            for count in 1..=roots.get() {
                let erased = noise.rows(count);
                let mut damaged = right.clone();
                erased.iter().for_each(|&row| damaged[row] ^= noise.not_zero());
                fill_in(&mut damaged, &erased);
                assert_eq!(damaged, right, "{roots} {erased:?}");
            }
        }
    }

    /// Every split of the parity between erasures and errors.
    #[test]
    fn errors_and_erasures_are_corrected_together() {
        let mut noise = Noise(2);
        for roots in 2..=24 {
            let roots = Roots::new(roots).unwrap();
            let right = codeword(roots, &mut noise);
            for erasures in 0..=roots.get() {
                for errors in 0..=(roots.get() - erasures) / 2 {
                    let wrong = noise.rows(erasures + errors);
                    let mut damaged = right.clone();
                    wrong.iter().for_each(|&row| damaged[row] ^= noise.not_zero());
                    let corrector = Corrector::new(roots, &wrong[..erasures]);
                    let correction = corrector.correct(&syndromes(roots, &damaged)).unwrap();
                    assert_eq!(correction.iter().count(), wrong.len());
                    correction.iter().for_each(|(row, difference)| damaged[row] ^= difference);
                    assert_eq!(damaged, right, "{roots}: {erasures} erasures, {errors} errors");
                }
            }
        }
    }

    /// Whatever the syndromes: an answer, if there is one, makes a codeword.
    #[test]
    fn too_much_damage_has_no_answer_or_that_of_another_codeword() {
        let mut noise = Noise(3);
        let mut none = 0;
        for round in 0..2000 {
            let roots = Roots::new(2 + round % 23).unwrap();
            let erased_count = noise.below(roots.get() + 1);
            let erased = noise.rows(erased_count);
            let mut damaged = codeword(roots, &mut noise);
            damaged.iter_mut().for_each(|byte| *byte ^= noise.not_zero());
            match Corrector::new(roots, &erased).correct(&syndromes(roots, &damaged)) {
                None => none += 1,
                Some(correction) => {
                    correction.iter().for_each(|(row, difference)| damaged[row] ^= difference);
                    assert_eq!(syndromes(roots, &damaged), vec![0; roots.get()], "{roots} {erased:?}");
                }
            }
        }
        assert!(none > 500, "{none}");
    }
}
