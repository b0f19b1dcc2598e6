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
    for target in "${targets[@]}"; do
        say "fuzz $target, $seconds s"
        mkdir -p "$cache/fuzz/$target"
        "${CARGO_TARGET_DIR:-target}/fuzz/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=2048 \
            -artifact_prefix="$cache/fuzz/crash-$target-" "$cache/fuzz/$target" >"$cache/fuzz/log" 2>&1 || {
            cat "$cache/fuzz/log" >&2
            die "$target crashed; the input is $cache/fuzz/crash-$target-*"
        }
        printf 'test fuzz %s ... ok (%s)\n' "$target" "$(sed -n 's/^Done \([0-9]* runs\).*/\1/p' "$cache/fuzz/log")"
    done
    printf '%d passed, 0 failed, 0 skipped\n' "${#targets[@]}"
}
