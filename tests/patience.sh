# Sourced: how long tests wait. Limits are for hangs: builds with sanitizers (make SAN=1, make TSAN=1) have ten times as long,
# and PATIENCE=N in the environment gives any N times as long. $sanitized is empty for other builds.
sanitized= slowness=${PATIENCE:-1}
if grep -qsaE '__(asan|tsan)_init' "${RINGSIDE:-build/ringside}"; then
	sanitized=1
	slowness=$((slowness * 10))
fi

# patience SECONDS: how long to wait for what takes less on a quiet machine; more where the host has more to do than it has
# processors. What hangs is still found.
patience() {
	local load rest
	read -r load rest </proc/loadavg
	echo $(($1 * slowness * (1 + ${load%.*} / $(nproc))))
}

# waited BEGIN SECONDS: is it so long since BEGIN?
waited() { [ $((SECONDS - $1)) -ge "$2" ] && [ $((SECONDS - $1)) -ge "$(patience "$2")" ]; }
