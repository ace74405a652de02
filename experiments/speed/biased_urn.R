# Seconds of drawing from BiasedUrn's multivariate Fisher distribution, REPEATS times; one number a line.
# Usage: Rscript biased_urn.R DRAWS REPEATS TOTAL_COUNT m1,m2,... w1,w2,...
arguments <- commandArgs(trailingOnly = TRUE)
if (!requireNamespace("BiasedUrn", quietly = TRUE)) quit(status = 1)
numbers <- lapply(strsplit(arguments, ","), as.numeric)
draw <- function(draws) BiasedUrn::rMFNCHypergeo(draws, numbers[[4]], numbers[[3]], numbers[[5]])
set.seed(0)
invisible(draw(1000))
for (i in seq_len(numbers[[2]])) {
  start <- Sys.time()
  invisible(draw(numbers[[1]]))
  cat(format(as.numeric(difftime(Sys.time(), start, units = "secs")), digits = 8), "\n")
}
