"""What is told of other people's metrics by their names."""

from __future__ import annotations

import math

import pytest
from sklearn.metrics import get_scorer_names  # type: ignore[import-untyped]

from pipeline import metrics
from pipeline.metrics import METRICS, Better, Range, guess

HIGHER = """
    accuracy, acc, val_acc, val/acc, test_acc_epoch, Validation Accuracy, val accuracy (%), valAccuracy, bacc, top1
    top-5, top5_acc, top_k_acc, val_top_k_categorical_accuracy, balanced_accuracy, val_binary_accuracy
    val_sparse_categorical_accuracy, training_accuracy_score, eval_accuracy, eval_mean_token_accuracy, fp16_acc
    acc@1, acc_norm, accuracy_lr, best_val_accuracy, accuracy_step_100, acc/epoch, rewards/accuracies
    precision, 0_precision, precision_weighted, training_precision_score, metrics/precisionB, recall, sensitivity
    specificity, tpr, TNR, true_negative_rate, True Positives, confusion_matrix_tn, negative_predictive_value
    f1, F1Score, f1_macro, valid_f1, eval/f1, f0.5_score, fbeta, macro avg/f1-score, auc, test-auc, AUROC, roc_auc
    training_roc_auc, pr_auc, aucpr, average_precision, ap, mcc, matthews_corrcoef, matthews_correlation_coefficient
    cohen_kappa, kappa, jaccard, R2, r2_score, R², adj_rsquared, explained_variance, d2_log_loss_score, pearsonr
    bleu, sacrebleu, BLEU-4, rouge1, rouge2_fmeasure, rougeL, rougeLsum, ROUGE-L, rouge1/v1/mean, meteor, chrf, chrF++
    bertscore, BERTScore_F1, exact_match, em, iou, mIoU, MeanIoU, val_miou, dice, dice_score, dice_coef, mAP, mAP@0.5
    mAP_0.5, map50, map_50_95, metrics/mAP50-95B, train-map, psnr, val_SSIM, ms_ssim, inception_score, Loss/PSNR
    ndcg, ndcg@10, ndcg_5, mrr, mean_reciprocal_rank, hit_rate, hits@10, recall@5, recall_5, precision@k, map@k
    image_to_text_recall@1, recall_at_precision_0.9, recall_at_fpr_0.1, reward, return, episode_return
    episode_reward_mean, rollout/ep_rew_mean, success_rate, win_rate, score, training_score, best_cv_score
    mean_test_score, similarity, cosine_similarity, log_likelihood, marginal_log_likelihood, likelihood, elpd, loglik
    elbo, val_elbo, silhouette_score, adjusted_rand_score, mutual_info_score, signal_to_noise_ratio
    PeakSignalNoiseRatio, SpearmanCorrCoef, MatthewsCorrCoef, StructuralSimilarityIndexMeasure, MulticlassAUROC
    neg_mean_squared_error, neg_root_mean_squared_error, neg_log_loss, val_neg_log_loss, neg_brier_score
    neg_mean_absolute_percentage_error, neg_max_error, neg_val_loss, neg_pinball_loss, neg_loss
    throughput, fps, time/fps, samples_per_second, eval_samples_per_second, eval_steps_per_second, tokens_per_sec
    tokens/s, samples/sec
"""
LOWER = """
    loss, val_loss, valLoss, eval_loss, train_loss_epoch, train_loss_step, Loss/train, losses, loss/step, step_loss
    loss_G, generator/loss, train/box_loss, val_loss_at_epoch_10, val_loss_at_best_acc, total_loss, lr_loss, 损失_loss
    f1_loss, dice_loss, neg_dice_loss, DiceLoss, MSELoss, elbo_loss, policy_loss, reward_loss, hinge, squared_hinge
    kld, kl_divergence, accuracy_error, error, error_rate, validation-error, train-merror, top1_err, top-1 error
    fpr, FNR, false_positive_rate, false_negatives, fpr_at_95_tpr, fpr@95tpr, log_loss, training_log_loss
    validation_0-logloss, valid_0-binary_logloss, mlogloss, cross_entropy, val_categorical_crossentropy, nll
    negative_log_likelihood, neg_log_likelihood_loss, neg_elbo, poisson-nloglik, brier, brier_score_loss, ece
    expected_calibration_error, hamming_loss, mse, training_mse, train-rmse, RMSE, mae, MAE_test, mape, smape, msle
    rmsle, mean_absolute_error, root_mean_squared_error, max_error, huber, pinball, valid_0-l2, valid_1-l2, perplexity
    val_ppl, bits_per_byte, bpc, bpd, ter, wer, cer, val_CER, edit_distance, lpips, FID, frechet_inception_distance
    LearnedPerceptualImagePatchSimilarity, CharErrorRate
    kid, regret, neg_reward, aic, bic, deviance, jaccard_distance, toxicity/v1/p90, accuracy_gap, peak_memory_mb
    latency, latency_p99, latency_seconds, inference_latency_ms
    time, wall_time, fit_time, mean_score_time, duration, eval_runtime, train_runtime, epoch_seconds, step_time
    seconds_per_epoch, time_total_s, time_to_accuracy_0.9, elapsed, gpu_hours
"""
UNKNOWN = """
    foo, perf, x1, is, distance, cosine_distance, rate, dropout_rate, temperature, entropy, objective/kl, num_params
    num_tokens, token_count, model_size, episode_length, rollout/ep_len_mean, steps_to_converge, steps_to_loss_0.1
    macro avg/support, flesch_kincaid_grade_level/v1/mean, ari_grade_level/v1/mean, точность, 损失, précision, issue
    1-ssim, val/1-ssim, one_minus_ssim, -loss, loss_f1, mse_psnr, accuracy_std, std_test_score, acc_norm_stderr
    rouge1/v1/variance, rank_test_score, loss_ratio, loss_weight, accuracy_drop, f1_threshold, p_value
    rewards/rejected, neg_accuracy, neg_recall, negative_class_f1, neg_samples_loss, pos_neg_ratio, std_fit_time
    epoch, epochs, Epoch, num_epochs, train/epoch, epoch/train, step, steps, global_step, trainer/global_step
    timesteps_total, time_step, iteration, training_iteration, best_iteration, stopped_epoch, best_val_loss_epoch
    num_updates, train/num_input_tokens_seen, lr, lr-Adam, lr-SGD/pg1, lr/pg0, lr-Adam-momentum, train/learning_rate
    learning_rate_head, total_flos, grad_norm, train/grad_norm, actor_loss_grad_norm, loss_scale, timestamp
    system/cpu_utilization_percentage, system/gpu_0_memory_usage_megabytes, system/network_receive_megabytes
"""


def names(table: str) -> list[str]:
    return [name.strip() for line in table.strip().splitlines() for name in line.split(", ")]


def since(first: str, table: str) -> set[str]:
    listed = names(table)
    return set(listed[listed.index(first) :])


# Which stand at the end of the tables.
WALL_TIMES = since("throughput", HIGHER) | since("time", LOWER) | {"std_fit_time"}
COUNTERS = since("epoch", UNKNOWN)
CASES = [
    *((name, "higher") for name in names(HIGHER)),
    *((name, "lower") for name in names(LOWER)),
    *((name, None) for name in names(UNKNOWN)),
]


@pytest.mark.parametrize(("name", "better"), CASES)
def test_what_a_name_tells(name: str, better: Better) -> None:
    row = guess(name)
    assert (row.better, row.is_wall_time, row.is_counter) == (better, name in WALL_TIMES, name in COUNTERS)
    assert row.higher_is_better is (None if better is None else better == "higher")


@pytest.mark.parametrize(
    ("name", "least", "most", "possible"),
    [
        ("val_acc", 0.1, 0.9, (0.0, 1.0)),
        ("val_acc", 0.1, 90, (0.0, 100.0)),
        ("val_acc", -1, 90, (-math.inf, math.inf)),
        ("f1_score", 0.1, 0.9, (0.0, 1.0)),
        ("f1_loss", 0.1, 0.9, (-math.inf, math.inf)),  # which may be 1 - F1 or -F1
        ("loss_f1", 0.1, 0.9, (-math.inf, math.inf)),
        ("val_mse", 0.1, 0.9, (0.0, math.inf)),
        ("neg_mean_squared_error", -0.9, -0.1, (-math.inf, 0.0)),
        ("neg_mean_squared_error", -0.9, 0.1, (-math.inf, math.inf)),
        ("neg_brier_score", -0.9, -0.1, (-1.0, 0.0)),
        ("r2", -3, 0.5, (-math.inf, 1.0)),
        ("mcc", -0.1, 0.5, (-1.0, 1.0)),
        ("brier", 0.1, 1.5, (0.0, 2.0)),
        ("ppl", 3, 40, (1.0, math.inf)),
        ("fit_time", 3, 40, (0.0, math.inf)),
        ("std_fit_time", 3, 40, (0.0, math.inf)),
        ("foo", 0.1, 0.9, (-math.inf, math.inf)),
    ],
)
def test_the_range_is_the_first_that_no_value_contradicts(
    name: str, least: float, most: float, possible: Range
) -> None:
    assert guess(name, least, most).possible == possible


def test_of_no_scorer_of_scikit_learn_less_is_taken_for_better() -> None:
    """By its convention more is better of each. That of likelihood ratios, of which one is negated, is not guessed."""
    guessed = {name: guess(name).better for name in get_scorer_names()}
    assert {name for name, better in guessed.items() if better != "higher"} <= {
        "positive_likelihood_ratio",
        "neg_negative_likelihood_ratio",
    }


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_a_guess_contradicts_no_row_of_our_own(row: metrics.Metric) -> None:
    assert guess(row.name).better in (row.better, None)
    assert row.better
    assert not row.is_counter


def test_the_table_has_each_word_once_and_reads_it_as_it_says() -> None:
    rows = [(known, name) for known, listed in metrics._ROWS for name in listed.split(", ")]
    assert len({" ".join(metrics._words(name)) for _, name in rows}) == len(rows)
    for known, name in rows:
        assert guess(name).better == known.better, name


@pytest.mark.parametrize("name", ["", " ", "/", "//a/", "-", "1", "1-", "neg", "at", "to", "s", "es", "_" * 300])
def test_any_name_is_read(name: str) -> None:
    assert guess(name).better is None
