# The report of bench/run: reads `ROW OPS` lines, then the samples; prints tables in Markdown.
# Exit status 1 when checksums differ. Plain POSIX awk.

function sorted(key,    n, i, j, v) {
	n = count[key]
	for (i = 1; i <= n; i++)
		list[i] = sample[key, i] + 0
	for (i = 2; i <= n; i++) {
		v = list[i]
		for (j = i - 1; j > 0 && list[j] > v; j--)
			list[j + 1] = list[j]
		list[j + 1] = v
	}
	return n
}

function median(key,    n) {
	n = sorted(key)
	return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
}

function add(key, value) {
	sample[key, ++count[key]] = value
}

function time_text(ns) {
	return ns < 1000 ? sprintf("%.2f ns", ns) : ns < 1e6 ? sprintf("%.2f µs", ns / 1e3) : sprintf("%.2f ms", ns / 1e6)
}

function geometric_mean(a, b,    i, n, sum) {
	for (i = 1; i <= rows; i++)
		if (((a, row[i]) in ns) && ((b, row[i]) in ns)) {
			sum += log(ns[a, row[i]] / ns[b, row[i]])
			n++
		}
	return n ? exp(sum / n) : 0
}

BEGIN {
	engine_count = split(engines, engine, ",")
	title["host"] = "host"
	title["tcg"] = "QEMU TCG"
	title["ringside"] = "Ringside"
	title["interp"] = "Ringside interp"
	for (i = 1; i <= engine_count; i++)
		present[engine[i]] = 1
}

NF == 2 {
	row[++rows] = $1
	full_ops[$1] = $2
	next
}

$3 == "boot" {
	add($2 " boot", $4)
	next
}

{
	inside = $5 / $4
	outside = $6 / $4
	add($2 " " $3 " inside", inside)
	add($2 " " $3 " outside", outside)
	if ($6 - $5 > 0.05 * $5 + 2e7 || $5 - $6 > 0.05 * $5 + 2e7)
		differ[$2, $3]++
	if (!($3 in checksum)) {
		checksum[$3] = $7
		checksum_of[$3] = $2
	} else if (checksum[$3] != $7) {
		printf "WRONG: row %s: checksum %s on %s, %s on %s\n", $3, checksum[$3], checksum_of[$3], $7, $2
		wrong = 1
	}
}

END {
	if (wrong)
		exit 1

	# Boot.
	for (e = 1; e <= engine_count; e++)
		if (count[engine[e] " boot"])
			boots = 1
	if (boots) {
		print "## Boot to init\n"
		print "| | seconds | fastest | slowest |"
		print "|---|---|---|---|"
		for (e = 1; e <= engine_count; e++) {
			key = engine[e] " boot"
			if (!count[key])
				continue
			boot[engine[e]] = median(key)
			printf "| %s | %.2f | %.2f | %.2f |\n", title[engine[e]], boot[engine[e]], list[1], list[count[key]]
		}
		print ""
	}

	# Rows: seconds for the full work, and ratios.
	for (i = 1; i <= rows; i++)
		for (e = 1; e <= engine_count; e++) {
			key = engine[e] " " row[i]
			if (!count[key " inside"])
				continue
			by_host_clock[engine[e], row[i]] = differ[engine[e], row[i]] * 2 > count[key " inside"]
			ns[engine[e], row[i]] = median(key (by_host_clock[engine[e], row[i]] ? " outside" : " inside"))
			least[engine[e], row[i]] = list[1]
			most[engine[e], row[i]] = list[count[key " inside"]]
			any = 1
		}
	if (!any)
		exit 0
	print "## Rows: seconds for the same work\n"
	header = "| row |"
	rule = "|---|"
	for (e = 1; e <= engine_count; e++) {
		header = header " " title[engine[e]] " |"
		rule = rule "---|"
	}
	if (present["host"])
		for (e = 1; e <= engine_count; e++)
			if (engine[e] != "host") {
				header = header " " title[engine[e]] " / host |"
				rule = rule "---|"
			}
	versus = present["tcg"] && present["ringside"]
	if (versus) {
		header = header " TCG / Ringside |"
		rule = rule "---|"
	}
	print header
	print rule
	for (i = 1; i <= rows; i++) {
		line = ""
		for (e = 1; e <= engine_count; e++)
			if ((engine[e], row[i]) in ns)
				line = line sprintf(" %.4f%s |", ns[engine[e], row[i]] * full_ops[row[i]] / 1e9, \
					by_host_clock[engine[e], row[i]] ? "*" : "")
		if (line == "")
			continue
		if (present["host"])
			for (e = 1; e <= engine_count; e++)
				if (engine[e] != "host")
					line = line sprintf(" %.2f |", ns[engine[e], row[i]] / ns["host", row[i]])
		if (versus) {
			ratio = ns["tcg", row[i]] / ns["ringside", row[i]]
			line = line sprintf(" %.2f |", ratio)
			if (ratio < 1)
				slower = slower " " row[i]
		}
		print "| " row[i] " |" line
	}
	line = "| **geometric mean** |"
	for (e = 1; e <= engine_count; e++)
		line = line " |"
	if (present["host"])
		for (e = 1; e <= engine_count; e++)
			if (engine[e] != "host")
				line = line sprintf(" **%.2f** |", geometric_mean(engine[e], "host"))
	if (versus)
		line = line sprintf(" **%.2f** |", geometric_mean("tcg", "ringside"))
	print line

	print "\n## Time of one operation: median (fastest to slowest round)\n"
	header = "| row |"
	rule = "|---|"
	for (e = 1; e <= engine_count; e++) {
		header = header " " title[engine[e]] " |"
		rule = rule "---|"
	}
	print header
	print rule
	for (i = 1; i <= rows; i++) {
		line = ""
		for (e = 1; e <= engine_count; e++)
			if ((engine[e], row[i]) in ns)
				line = line sprintf(" %s (%s to %s) |", time_text(ns[engine[e], row[i]]), \
					time_text(least[engine[e], row[i]]), time_text(most[engine[e], row[i]]))
		if (line != "")
			print "| " row[i] " |" line
	}

	if (versus) {
		print "\n## Against QEMU's TCG\n"
		if (("ringside" in boot) && ("tcg" in boot))
			printf "- Boot to init: %.2f times faster.\n", boot["tcg"] / boot["ringside"]
		printf "- Geometric mean over the rows: %.2f times faster.\n", geometric_mean("tcg", "ringside")
		print "- Rows slower than TCG:" (slower == "" ? " none" : slower) "."
	}
}
