package main

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"sallyport/audit"
)

// measureReading runs the commands of an auditor on a log of so many records.
func measureReading(ctx context.Context, p *place, records int) error {
	copied := filepath.Join(p.dir, "copy")
	if out, err := exec.CommandContext(ctx, "cp", "-r", p.audit(), copied).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the log: %w: %s", err, out)
	}
	fmt.Printf("reading: %d decisions, %.2f GB\n", records, float64(dirSize(copied))/1e9)
	fmt.Printf("%-34s %12s %10s %10s\n", "command", "records/s", "seconds", "RSS MiB")
	bundle := filepath.Join(p.dir, "evidence.zip")
	for _, c := range []struct {
		label string
		args  []string
	}{
		{"verify", []string{"audit", "verify", copied, "--trust", p.trust}},
		{"verify --rederive", []string{"audit", "verify", copied, "--trust", p.trust, "--rederive"}},
		{"export jsonl --disclose", []string{"audit", "export", "--format", "jsonl", "--disclose"}},
		{"export jsonl", []string{"audit", "export", "--format", "jsonl"}},
		{"export ocsf --disclose", []string{"audit", "export", "--format", "ocsf", "--disclose"}},
		{"export ocsf", []string{"audit", "export", "--format", "ocsf"}},
		{"export csv", []string{"audit", "export", "--format", "csv"}},
		{"bundle", []string{"audit", "bundle", "--out", bundle}},
		{"verify of the bundle", []string{"audit", "verify", bundle, "--trust", p.trust}},
	} {
		if err := p.measureCommand(ctx, records, c.label, c.args); err != nil {
			return err
		}
	}
	fmt.Printf("the bundle has %.2f GB\n\n", float64(dirSize(bundle))/1e9)
	return nil
}

// measureCommand runs a command three times and prints the median.
func (p *place) measureCommand(ctx context.Context, records int, label string, args []string) error {
	binary, err := program("sallyport")
	if err != nil {
		return err
	}
	var times []time.Duration
	var rss int64
	for range 3 {
		cmd := exec.CommandContext(ctx, binary, append([]string{"--config", p.config}, args...)...)
		cmd.Stderr = os.Stderr
		began := time.Now()
		if err := cmd.Run(); err != nil {
			if code := cmd.ProcessState.ExitCode(); code != 5 { // gaps: this program opened and closed the log several times
				return fmt.Errorf("sallyport %v: %w", args, err)
			}
		}
		times = append(times, time.Since(began))
		rss = max(rss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	slices.Sort(times)
	fmt.Printf("%-34s %12.0f %10.2f %10d\n", label, float64(records)/times[1].Seconds(), times[1].Seconds(), rss/1024)
	return nil
}

// lines yields a log's records as they are stored.
func lines(p *place, log string) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r, err := audit.OpenReader(p.audit(), log)
		if err != nil {
			yield(nil, err)
			return
		}
		defer r.Close()
		for line, err := range r.Lines(context.Background(), 0) {
			if !yield(line.Raw, err) {
				return
			}
		}
	}
}
