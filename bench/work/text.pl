# Text work: a file's lines split, matched, rewritten, counted, sorted.
# usage: text.pl FILE
use strict;
use warnings;

my (%words, %lengths, %pairs, @lines);
my ($changed, $checksum) = (0, 0);
open(my $in, '<', $ARGV[0]) or die "cannot open $ARGV[0]: $!\n";
while (my $line = <$in>) {
	chomp $line;
	push @lines, $line;
	my $before = '';
	for my $word (split /[^A-Za-z0-9_]+/, $line) {
		next if $word eq '';
		$words{lc $word}++;
		$lengths{length $word}++;
		$pairs{"$before $word"}++ if $before =~ /^[a-z]/;
		$before = $word;
	}
	$changed++ if $line =~ s/\b([a-z])([a-z]+)_([a-z]+)\b/\u$1$2\u$3/g;
	$line =~ tr/a-mn-z/n-za-m/;
	$line = join ' ', reverse split / /, $line;
	$checksum = ($checksum * 31 + unpack('%32C*', $line)) % 4294967291;
}
close $in;
my @frequent = sort { $words{$b} <=> $words{$a} || $a cmp $b } keys %words;
printf "%-20s %d\n", $_, $words{$_} for @frequent[0 .. 19];
my @common = sort { $pairs{$b} <=> $pairs{$a} || $a cmp $b } keys %pairs;
printf "%-30s %d\n", $_, $pairs{$_} for @common[0 .. 9];
my @sorted = sort @lines;
my $numbers = grep { /\b(?:0x[0-9a-f]+|\d+(?:\.\d+)?)\b/i } @sorted;
print "lengths ", join(',', map { "$_:$lengths{$_}" } sort { $a <=> $b } keys %lengths), "\n";
print scalar(@lines), " lines, $changed changed, $numbers with numbers, $checksum, $sorted[$#sorted / 2]\n";
