#!/usr/bin/env bash
# Runs each fuzz target for a while: FUZZ_SECONDS (20) each, or the targets named as arguments. What makes one
# panic, hang for over 5 s or take over 1 GiB is written to fuzz/artifacts, and the run fails.
#
# cargo-fuzz's flags are those of a nightly compiler; RUSTC_BOOTSTRAP lets the pinned one take them, for this
# build only.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-20}
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(cron rrule local_time schedule expression)
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
cargo fuzz build --fuzz-dir fuzz --sanitizer none --target "$host"
for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target"
  echo "== Fuzzing $target for $seconds s"
  cargo fuzz run "$target" --fuzz-dir fuzz --sanitizer none --target "$host" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -dict=fuzz/dictionary.txt -print_final_stats=1 2>&1 |
    grep -E "^(Done|stat::|SUMMARY|ERROR|==.*ERROR|thread|artifact)|panicked" || { echo "fuzzing $target failed"; exit 1; }
done
