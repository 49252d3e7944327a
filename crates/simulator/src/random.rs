//! Random numbers from a seed, and from nothing else.

use spawnery_cluster::Ids;
use spawnery_model::Id;

/// A source of numbers that depend on its seed only: xoshiro256** by Blackman and Vigna, seeded
/// by SplitMix64 as its authors advise. Both are in the public domain.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        let mut mixed = seed;
        let state = std::array::from_fn(|_| {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Random { state }
    }

    /// Another source, whose numbers do not depend on how many are drawn from this one later.
    pub(crate) fn fork(&mut self) -> Random {
        Random::new(self.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// One of `choices`, which are not empty.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// A time around `mean`: from a fifth of it to a bit less than twice.
    pub(crate) fn around(&mut self, mean: u64) -> u64 {
        self.between((mean / 5).max(1), (mean * 9 / 5).max(1))
    }
}

impl Ids for Random {
    fn fresh(&mut self) -> Id {
        Id::from_bits((u128::from(self.next()) << 64) | u128::from(self.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_depend_on_the_seed() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.between(3, 9)).collect::<Vec<u64>>()
        };
        let numbers = draw(1);
        assert!((3..=9).all(|number| numbers.contains(&number)));
        assert!(numbers.iter().all(|number| (3..=9).contains(number)));
        assert_eq!(numbers, draw(1));
        assert_ne!(numbers, draw(2));
    }

    #[test]
    fn a_chance_of_nothing_never_comes_and_of_all_always() {
        let mut random = Random::new(7);
        assert!((0..100).all(|_| !random.chance(0) && random.chance(1000)));
    }
}
