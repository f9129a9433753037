# plot.gnuplot: the plots of docs/performance.md, from the data that bench/report wrote. data: where that is; out: where the SVGs go.
#
# Decided: what was not measured has no plot. A logarithmic axis where engines differ by orders of magnitude; from zero where flatness is the point.
set terminal svg size 900,420 font "sans-serif,13" background "white"
set style fill solid 0.9 border
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set datafile missing "NaN"
set key outside top center horizontal
measured(name) = int(system("wc -l <".data."/".name.".dat"))

if (measured("engines")) {
set output out."/performance.svg"
set title "Steps per second, two processes, one machine, fsync on (logarithmic)"
set style data histogram
set style histogram clustered gap 1
set logscale y
set yrange [100:*]
set format y "%.0s%c"
set xtics rotate by -25
plot data."/engines.dat" using 2:xtic(1) title "W1: chain of three" lc rgb "#2a6f97", \
     "" using 3 title "W2: one, eight, one" lc rgb "#e09f3e"
}

if (measured("growth")) {
set output out."/performance-growth.svg"
set title "Steps per second as a graph grows, one executor (noops)"
unset logscale
set yrange [0:*]
set logscale x
set xtics norotate
set xlabel "steps"
set format x "%.0f"
plot data."/growth.dat" using 1:2 with linespoints lw 2 pt 7 lc rgb "#2a6f97" title "side by side", \
     "" using 1:3 with linespoints lw 2 pt 5 lc rgb "#e09f3e" title "one after the other"
}

if (measured("assets")) {
set output out."/performance-assets.svg"
set title "Asset inserts per second, one per transaction"
unset logscale
set logscale x 2
set yrange [0:*]
set xtics norotate
set format x "%.0f"
set xlabel "clients"
plot data."/assets.dat" using 1:2 with linespoints lw 2 pt 7 lc rgb "#7a7a7a" title "NOTIFY off", \
     "" using 1:3 with linespoints lw 2 pt 5 lc rgb "#2a6f97" title "as shipped", \
     "" using 1:4 with linespoints lw 2 pt 9 lc rgb "#e09f3e" title "with an event trigger"
}
