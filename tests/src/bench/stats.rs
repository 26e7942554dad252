//! A few numbers about a few numbers.

/// The middle one; between two of them, their mean.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The least and the greatest.
#[must_use]
pub fn spread(numbers: &[f64]) -> (f64, f64) {
    numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, greatest), number| (least.min(*number), greatest.max(*number)))
}

/// Standard deviation by mean: 0 when all are equal.
#[must_use]
#[allow(clippy::cast_precision_loss)] // counts of connections and requests
pub fn coefficient_of_variation(counts: &[u64]) -> f64 {
    let n = counts.len() as f64;
    let mean = counts.iter().sum::<u64>() as f64 / n;
    let variance = counts.iter().map(|count| (*count as f64 - mean).powi(2)).sum::<f64>() / n;
    variance.sqrt() / mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!([median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 3.0, 2.0])], [2.0, 2.5]);
    }

    #[test]
    fn the_coefficient_of_variation_is_deviation_by_mean() {
        assert_eq!([coefficient_of_variation(&[5, 5, 5]), coefficient_of_variation(&[0, 10])], [0.0, 1.0]);
    }
}
