# shellcheck shell=bash
# Coverage-guided fuzzing with libFuzzer, on stable Rust: the flags that make it guided are ordinary code generation flags.

readonly fuzz_flags='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing'

# fuzz [SECONDS [TARGET...]]: fuzzes each target for so long, ten seconds by default. What crashes one is kept.
fuzz() {
    local seconds=${1:-10} target host
    shift || true
    local targets=("$@") crate=verity-core/fuzz
    if ((${#targets[@]} == 0)); then
        mapfile -t targets < <(cd "$crate/fuzz_targets" && printf '%s\n' *.rs | sed 's/\.rs$//')
    fi
    host=$(rustc -vV | sed -n 's/^host: //p')
    # The target is named so that build scripts are built without these flags.
    RUSTFLAGS=${fuzz_flags//$'\n'/ } cargo build --quiet --release --manifest-path "$crate/Cargo.toml" \
        --target "$host" --target-dir "${CARGO_TARGET_DIR:-target}/fuzz"
    # As many at once as there are processors: each has one thread.
    set -m
    trap stop_jobs EXIT
    local running=0 result=0
    for target in "${targets[@]}"; do
        if ((running == $(nproc))); then
            wait -n || result=1
            running=$((running - 1))
        fi
        fuzz_target "$target" "$seconds" "${CARGO_TARGET_DIR:-target}/fuzz/$host/release/$target" &
        running=$((running + 1))
    done
    while ((running--)); do
        wait -n || result=1
    done
    trap - EXIT
    set +m
    ((result == 0)) || die "fuzzing failed"
    printf '%d passed, 0 failed, 0 skipped\n' "${#targets[@]}"
}

# fuzz_target TARGET SECONDS PROGRAM
fuzz_target() {
    local log=$cache/fuzz/log-$1
    say "fuzz $1, $2 s"
    mkdir -p "$cache/fuzz/$1"
    "$3" -max_total_time="$2" -rss_limit_mb=2048 -artifact_prefix="$cache/fuzz/crash-$1-" "$cache/fuzz/$1" >"$log" 2>&1 || {
        cat "$log" >&2
        die "$1 crashed; the input is $cache/fuzz/crash-$1-*"
    }
    printf 'test fuzz %s ... ok (%s)\n' "$1" "$(sed -n 's/^Done \([0-9]* runs\).*/\1/p' "$log")"
}
