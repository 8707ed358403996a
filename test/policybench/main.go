// Command policybench measures decisions and what reviewers do with policies, on this machine:
//
//	make bench-policy
//
// The policy has 50 apps with 200 access rules, the person asking is in 40 groups. Single decisions are measured in
// short runs by the processor time of this process, garbage collection included; the median and the fastest twentieth are
// shown, since a machine that others use is slower even for those who have their turn. What OPA takes for the same
// decision as programs usually call it is the yardstick.
// SALLYPORT_RECORDS is how many recorded decisions the diff replays (default 1,000,000).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "policybench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	records, err := setting("SALLYPORT_RECORDS", 1_000_000)
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d processors, load %s\n\n", runtime.Version(), runtime.GOMAXPROCS(0), load())
	for _, measure := range []func(context.Context) error{
		measureUsual,
		measureDecisions,
		measureMemo,
		measureCheck,
		measureReplay,
		func(ctx context.Context) error { return measureDiff(ctx, records) },
	} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\nload %s at the end\n", load())
	return nil
}

// load is what else the machine did in the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	var one string
	if _, err := fmt.Sscan(string(text), &one); err != nil {
		return "unknown"
	}
	return one
}

func setting(name string, usual int) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s is %q, not a number of records", name, text)
	}
	return n, nil
}

// show prints one figure beside what it is held against.
func show(what, figure, wanted string) { fmt.Printf("%-58s %-34s %s\n", what, figure, wanted) }

// pace shows how much processor time one call of f takes, in runs of n.
func pace(what, wanted string, n int, f func()) {
	const runs = 200
	took := make([]time.Duration, runs)
	for i := range took {
		began := processorTime()
		for range n {
			f()
		}
		took[i] = (processorTime() - began) / time.Duration(n)
	}
	slices.Sort(took)
	show(what, fmt.Sprintf("%v, at best %v", took[runs/2], took[runs/20]), wanted)
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic("BUG: asking for this process's own time: " + err.Error())
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func perSecond(n int, took time.Duration) string {
	return fmt.Sprintf("%.0f/s", float64(n)/took.Seconds())
}
