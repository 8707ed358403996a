package test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"sallyport/audit"
	"sallyport/gateway"
	"sallyport/gateway/boot"
	"sallyport/test/harness"
)

// mutants are gateways with one mistake, which the tests must find. They run as child processes of the test binary.
var mutants = map[string]func(config string) boot.Options{
	"forward before ack": func(string) boot.Options {
		return boot.Options{WrapDecisions: func(d gateway.Decisions) gateway.Decisions { return eager{d} }}
	},
	"holds a key": hoard,
	// No mistake of the gateway, only of its disk.
	"on a faulty disk": faultyDisk,
}

const mutantVariable = "SALLYPORT_TEST_MUTANT"

func TestMain(m *testing.M) {
	if name := os.Getenv(mutantVariable); name != "" {
		runMutant(name)
	}
	code := m.Run()
	harness.RemoveBinaries()
	os.Exit(code)
}

func runMutant(name string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	opts := mutants[name](os.Args[1])
	opts.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := boot.Run(ctx, os.Args[1], opts); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startMutant runs a mutant in place of the real binary.
func startMutant(t testing.TB, s *harness.Stand, name string) *harness.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0], s.Config)
	cmd.Env = append(os.Environ(), mutantVariable+"="+name)
	return s.StartCommand(t, cmd)
}

// eager acknowledges a decision before it is durable.
type eager struct{ gateway.Decisions }

func (e eager) Append(ctx context.Context, r *audit.Record) (audit.Receipt, error) {
	return audit.Receipt{Log: audit.DecisionLog, ID: "not yet"}, e.Post(ctx, r)
}
