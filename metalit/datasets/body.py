"""Height, weight and age of men and women, drawn from published moments."""

import numpy as np
import torch
from torch.utils.data import TensorDataset

from ._splits import SPLITS, check_split

# means and covariances (divisor n - 1) of height in cm, weight in kg and age in years, rounded to
# 4 decimals, of the rows of bdims.csv (see References) with sex = 0 and sex = 1
MEANS = {
    "female": [164.8723, 60.6004, 28.7692],  # 260 women
    "male": [177.7453, 78.1445, 31.6680],  # 247 men
}
COVARIANCES = {
    "female": [
        [42.8318, 27.1270, -3.6732],
        [27.1270, 92.4617, 12.4132],
        [-3.6732, 12.4132, 78.3790],
    ],
    "male": [
        [51.6045, 40.3841, -2.7259],
        [40.3841, 110.5209, 15.4132],
        [-2.7259, 15.4132, 103.0519],
    ],
}


class BodyMeasurements(TensorDataset):
    """Height, weight and age of equally many women and men, from two Gaussian distributions.

    Each sex has the mean and the covariance of the 507 physically active adults whom Heinz et al.
    (2003) measured; every split is a fresh draw, so no person is in two. Differs from the measured
    people in the form of the distribution: their ages are skewed and start at 18, whereas one in
    ten Gaussian ages is lower, and one in a thousand below 0. x is float32 of shape `(N, 3)`, as it
    is, without scaling; y is int64 of shape `(N,)`, 0 for women and 1 for men, the women first.

    Attributes:
        classes: "female" and "male", in the order of y.
        columns: Names and units of the three features.

    Args:
        split: "train", "val" or "test".
        people_per_sex: Number of women, and of men.
        seed: Fixes the draw, together with the split.

    Raises:
        ValueError: If `split` is none of the three or `people_per_sex` is smaller than 1.

    Example:
        >>> people = BodyMeasurements("train")
        >>> people.tensors[0].shape, people.columns
        (torch.Size([400, 3]), ['height_cm', 'weight_kg', 'age_years'])

    References:
        Heinz, Peterson, Johnson and Kerk, Exploring Relationships in Body Dimensions, Journal of
        Statistics Education 11(2), 2003, https://doi.org/10.1080/10691898.2003.11910711
        Their 507 rows, as openintro's bdims, columns hgt, wgt, age and sex:
        https://vincentarelbundock.github.io/Rdatasets/csv/openintro/bdims.csv
    """

    def __init__(self, split: str, people_per_sex: int = 200, seed: int = 0) -> None:
        check_split(split)
        if people_per_sex < 1:
            raise ValueError(f"people_per_sex={people_per_sex} should be at least 1.")
        self.split = split
        self.people_per_sex = people_per_sex
        self.seed = seed
        self.classes = list(MEANS)
        self.columns = ["height_cm", "weight_kg", "age_years"]
        generator = np.random.default_rng([seed, SPLITS.index(split)])
        people = [
            generator.multivariate_normal(
                MEANS[sex], COVARIANCES[sex], people_per_sex, method="cholesky"
            )
            for sex in self.classes
        ]
        x = torch.as_tensor(np.concatenate(people), dtype=torch.float32)
        super().__init__(x, torch.arange(len(people)).repeat_interleave(people_per_sex))
