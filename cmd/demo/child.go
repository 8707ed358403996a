package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// child is a program that the demo runs.
type child struct {
	name  string
	path  string
	args  []string
	words *words
}

func newChild(name string, out io.Writer, path string, args ...string) *child {
	return &child{name, path, args, &words{prefix: name + " │ ", out: out}}
}

// run runs the program until it ends by itself, which is an error with its last words, or ctx ends: then it is asked to
// stop and, after stopTime, killed. It must be called on a goroutine of its own.
func (c *child) run(ctx context.Context) error {
	// Pdeathsig follows the thread that starts the program, so that thread has to stay: should the demo be killed, the
	// gateway is told to stop, and its key process follows when their connection ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Stdout, cmd.Stderr = c.words, c.words
	// A group of its own: Ctrl-C on a terminal reaches the demo alone, which stops things in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	err := cmd.Run()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("stopping the %s: %w", c.name, err)
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("the %s: %w\n%s", c.name, err, c.words.last())
}

// words shows what a program writes line by line behind a prefix, and remembers the end of it.
type words struct {
	prefix string
	out    io.Writer

	mu     sync.Mutex
	open   []byte   // a line that has not ended yet
	recent []string // the last lines
}

// remembered is how many lines count as last words.
const remembered = 8

// Write never fails: a program must not stop because nobody reads its words.
func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = append(w.open, p...)
	for {
		line, rest, ended := bytes.Cut(w.open, []byte("\n"))
		if !ended {
			return len(p), nil
		}
		w.recent = append(w.recent, string(line))
		w.recent = w.recent[max(0, len(w.recent)-remembered):]
		fmt.Fprintf(w.out, "%s%s\n", w.prefix, line)
		w.open = bytes.Clone(rest)
	}
}

// last returns the last words, with a line that was not finished.
func (w *words) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.recent
	if len(w.open) > 0 {
		lines = append(lines[:len(lines):len(lines)], string(w.open))
	}
	return strings.Join(lines, "\n")
}
