// Command auditbench measures the audit log and what auditors do with it, on this machine, with the programs in bin/:
//
//	make bench-audit
//
// It writes a log of real decisions (a person in 40 groups, 20 apps, the policy's own verdicts) with a real key process
// signing its tree, and then verifies, re-derives, exports, queries and bundles it. Beside every rate stands what the disk
// does by itself in the same run. SALLYPORT_RECORDS is the size of the log (default 1,000,000), SALLYPORT_QUERY_RECORDS
// that of the log that is queried (default 5,000,000), SALLYPORT_BENCH_DIR where both are written (default /var/tmp).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "auditbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	records, err := setting("SALLYPORT_RECORDS", 1_000_000)
	if err != nil {
		return err
	}
	queried, err := setting("SALLYPORT_QUERY_RECORDS", 5_000_000)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(folder(), "auditbench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	place, err := newPlace(ctx, dir)
	if err != nil {
		return err
	}
	if err := measureWriting(ctx, place); err != nil {
		return err
	}
	if err := place.fill(ctx, records); err != nil {
		return err
	}
	if err := measureReading(ctx, place, records); err != nil {
		return err
	}
	return measureQueries(ctx, place, queried)
}

func folder() string {
	if dir := os.Getenv("SALLYPORT_BENCH_DIR"); dir != "" {
		return dir
	}
	return "/var/tmp"
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

// program is one of ours.
func program(name string) (string, error) {
	bin := os.Getenv("SALLYPORT_BIN")
	if bin == "" {
		bin = "bin"
	}
	return filepath.Abs(filepath.Join(bin, name))
}
