"""Why tests of Spark's differ here although the class that they test is built: what was found for each, by file and test."""

__all__ = ["REASONS"]

_DRAWS = "Enclaves draw from their own generator: the same seed does not give Spark's {}. The test's numbers are those of Spark's draws."
_NO_JAVA = "The test looks at the Java object behind the class; there is none."
_LENGTHS = "The vectors of one column must have one length: the data set is refused."
_SPLITS = "The fitted model is sealed, because its splits are of the data, and so no `Bucketizer`, whose splits are Params."
_EXTREMES = "`devianceResiduals`, the smallest and the largest residual, are those of two single rows and refused by design."
_ROWS = "Only the response residuals exist, sealed; those of the other types are refused."
_MOCK = "The test's data set is a mock of a Spark data frame, and rows in the clear are refused."

REASONS: dict[str, dict[str, str]] = {
    "test_classification.py": {
        "test_binary_random_forest_classifier": _DRAWS.format("bootstraps"),
        "test_gbt_classifier": "The numbers before that line agree. `evaluateEachIteration` is not built.",
        "test_linear_svc": "The test stops after one step, which Spark's search shortens to a tenth; both end at the same minimum.",
        "test_multiclass_random_forest_classifier": _DRAWS.format("bootstraps"),
        "test_multinomial_logistic_regression_with_bound": (
            "Spark's minimiser stops at 1.55315611008 after 19 steps, this one at 1.55315610788, which is lower; coefficients differ "
            "by 4e-4."
        ),
    },
    "test_clustering.py": {
        "test_distributed_lda": _DRAWS.format("first topics"),
        "test_gaussian_mixture": _DRAWS.format("first clusters"),
        "test_kmeans": "The same two centres in the other order: " + _DRAWS.format("first centres"),
        "test_local_lda": _DRAWS.format("first topics"),
    },
    "test_evaluation.py": {"test_java_params": _NO_JAVA},
    "test_feature.py": {
        "test_normalizer": _LENGTHS,
        "test_pca": "Components are those of MLlib up to their sign, which the test takes from LAPACK.",
        "test_quantile_discretizer_multiple_columns": _SPLITS,
        "test_quantile_discretizer_single_column": _SPLITS,
        "test_vector_assembler": "`head` in the test evaluates the first row alone; a release evaluates all, and the others have nulls.",
        "test_vector_size_hint": _LENGTHS,
    },
    "test_pipeline.py": {"test_identity_pipeline": _MOCK, "test_pipeline": _MOCK},
    "test_regression.py": {
        "test_gbt_regressor": "The numbers before that line agree. `evaluateEachIteration` is not built.",
        "test_linear_regression": _EXTREMES,
        "test_generalized_linear_regression": _ROWS,
        "test_random_forest_regressor": _DRAWS.format("bootstraps"),
    },
    "test_training_summary.py": {
        "test_glr_summary": _ROWS,
        "test_linear_regression_summary": _EXTREMES,
        "test_gaussian_mixture_summary": _DRAWS.format("first clusters") + " Some draws pass.",
        "test_multiclass_randomforest_classification_summary": _DRAWS.format("bootstraps") + " Some draws pass.",
    },
}
