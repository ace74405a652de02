# Seconds of each repeat of drawing from BiasedUrn's multivariate Fisher distribution, one JSON line on stdout.
# Usage: Rscript biased_urn.R DRAWS REPEATS TOTAL_COUNT "m1,m2,..." "w1,w2,..."
arguments <- commandArgs(trailingOnly = TRUE)
if (!requireNamespace("BiasedUrn", quietly = TRUE)) {
  cat("{\"missing\": \"the R package BiasedUrn is not installed (Debian: r-cran-biasedurn)\"}\n")
  quit(status = 0)
}
draws <- as.integer(arguments[1])
repeats <- as.integer(arguments[2])
total_count <- as.integer(arguments[3])
group_sizes <- as.integer(strsplit(arguments[4], ",")[[1]])
weights <- as.numeric(strsplit(arguments[5], ",")[[1]])
set.seed(0)
invisible(BiasedUrn::rMFNCHypergeo(1000, group_sizes, total_count, weights))
seconds <- numeric(repeats)
for (i in seq_len(repeats)) {
  start <- Sys.time()
  counts <- BiasedUrn::rMFNCHypergeo(draws, group_sizes, total_count, weights)
  seconds[i] <- as.numeric(difftime(Sys.time(), start, units = "secs"))
}
cat(sprintf("{\"seconds\": [%s], \"version\": \"%s\", \"means\": [%s]}\n",
            paste(format(seconds, digits = 8), collapse = ", "),
            as.character(packageVersion("BiasedUrn")),
            paste(format(rowMeans(counts), digits = 8), collapse = ", ")))
