#!/bin/sh
# rustdoc with its unstable options, which `cargo xtask api` needs for one of them: the format of its output.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
