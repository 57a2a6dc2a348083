# The report of bench/run: reads `ROW OPS PART` lines, then the samples; prints tables in Markdown.
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

function geometric_mean(of, a, b,    i, n, sum) {
	for (i = 1; i <= rows; i++)
		if (part[row[i]] == of && ((a, row[i]) in ns) && ((b, row[i]) in ns)) {
			sum += log(ns[a, row[i]] / ns[b, row[i]])
			n++
		}
	return n ? exp(sum / n) : 0
}

# The head of a table with a column an engine; `ratios`: those between them too.
function print_head(first, ratios,    e, head, rule) {
	head = "| " first " |"
	rule = "|---|"
	for (e = 1; e <= engine_count; e++) {
		head = head " " title[engine[e]] " |"
		rule = rule "---|"
	}
	if (ratios && present["host"])
		for (e = 1; e <= engine_count; e++)
			if (engine[e] != "host") {
				head = head " " title[engine[e]] " / host |"
				rule = rule "---|"
			}
	if (ratios && versus) {
		head = head " TCG / Ringside |"
		rule = rule "---|"
	}
	print head
	print rule
}

function print_boot(    e, key) {
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

# Seconds for the full work, and ratios: the rows of a part, and their geometric mean.
function print_rows(of, mean,    i, e, line, ratio, any) {
	for (i = 1; i <= rows; i++) {
		if (part[row[i]] != of)
			continue
		line = ""
		for (e = 1; e <= engine_count; e++)
			if ((engine[e], row[i]) in ns)
				line = line sprintf(" %.4f%s |", ns[engine[e], row[i]] * full_ops[row[i]] / 1e9, \
					by_host_clock[engine[e], row[i]] ? "*" : "")
		if (line == "")
			continue
		any = 1
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
	if (!any)
		return
	line = "| **" mean "** |"
	for (e = 1; e <= engine_count; e++)
		line = line " |"
	if (present["host"])
		for (e = 1; e <= engine_count; e++)
			if (engine[e] != "host")
				line = line sprintf(" **%.2f** |", geometric_mean(of, engine[e], "host"))
	if (versus)
		line = line sprintf(" **%.2f** |", geometric_mean(of, "tcg", "ringside"))
	print line
}

function print_operations(    i, e, line) {
	print "\n## Time of one operation: median (fastest to slowest round)\n"
	print_head("row", 0)
	for (i = 1; i <= rows; i++) {
		if (part[row[i]] == "two")
			continue
		line = ""
		for (e = 1; e <= engine_count; e++)
			if ((engine[e], row[i]) in ns)
				line = line sprintf(" %s (%s to %s) |", time_text(ns[engine[e], row[i]]), \
					time_text(least[engine[e], row[i]]), time_text(most[engine[e], row[i]]))
		if (line != "")
			print "| " row[i] " |" line
	}
}

# How much longer two processes took than one, in the same machine: the median of the rounds.
function print_two(    i, e, r, one, two, key, line, name) {
	print "\n## Two processes on two CPUs: time relative to one process\n"
	print_head("row", 0)
	for (i = 1; i <= rows; i++) {
		if (part[row[i]] != "two" || row[i] !~ /\.1$/)
			continue
		name = row[i]
		sub(/\.1$/, "", name)
		line = ""
		for (e = 1; e <= engine_count; e++) {
			one = engine[e] " " name ".1 outside"
			two = engine[e] " " name ".2 outside"
			key = engine[e] " " name " ratio"
			for (r = 1; r <= count[one]; r++)
				add(key, sample[two, r] / sample[one, r])
			if (count[key])
				line = line sprintf(" %.2f (%.2f to %.2f) |", median(key), list[1], list[count[key]])
		}
		if (line != "")
			print "| " name " |" line
	}
}

BEGIN {
	engine_count = split(engines, engine, ",")
	title["host"] = "host"
	title["tcg"] = "QEMU TCG"
	title["ringside"] = "Ringside"
	title["interp"] = "Ringside interp"
	for (i = 1; i <= engine_count; i++)
		present[engine[i]] = 1
	versus = present["tcg"] && present["ringside"]
}

NF == 3 {
	row[++rows] = $1
	full_ops[$1] = $2
	part[$1] = $3
	next
}

$3 == "boot" {
	add($2 " boot", $4)
	next
}

{
	any[part[$3]] = 1
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
	for (e = 1; e <= engine_count; e++)
		if (count[engine[e] " boot"])
			boots = 1
	if (boots)
		print_boot()
	for (i = 1; i <= rows; i++)
		for (e = 1; e <= engine_count; e++) {
			key = engine[e] " " row[i]
			if (!count[key " inside"])
				continue
			by_host_clock[engine[e], row[i]] = differ[engine[e], row[i]] * 2 > count[key " inside"]
			ns[engine[e], row[i]] = median(key (by_host_clock[engine[e], row[i]] ? " outside" : " inside"))
			least[engine[e], row[i]] = list[1]
			most[engine[e], row[i]] = list[count[key " inside"]]
		}
	if (any["rows"] || any["work"]) {
		print "## Rows: seconds for the same work\n"
		print_head("row", 1)
		print_rows("rows", "geometric mean")
		print_rows("work", "geometric mean, real work")
		print_operations()
	}
	if (any["two"])
		print_two()
	if (versus && (any["rows"] || any["work"])) {
		print "\n## Against QEMU's TCG\n"
		if (("ringside" in boot) && ("tcg" in boot))
			printf "- Boot to init: %.2f times faster.\n", boot["tcg"] / boot["ringside"]
		if (any["rows"])
			printf "- Geometric mean over the rows: %.2f times faster.\n", geometric_mean("rows", "tcg", "ringside")
		if (any["work"])
			printf "- Geometric mean over real work: %.2f times faster.\n", geometric_mean("work", "tcg", "ringside")
		print "- Rows slower than TCG:" (slower == "" ? " none" : slower) "."
	}
}
