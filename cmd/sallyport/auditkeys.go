package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"sallyport/certs/keyring"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

type auditTrustCommand struct{}

func (c *auditTrustCommand) Run(in *invocation) error {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return err
	}
	keys, err := verifierKeys(in.ctx, places)
	if err != nil {
		return err
	}
	fmt.Fprintln(in.out, "# Keys that sign the audit logs and evidence bundles of "+places.Audit.Origin+".")
	fmt.Fprintln(in.out, "# Keep this file where the gateway's operators cannot change it, and append receipts (sallyport audit receipt).")
	for _, key := range keys {
		fmt.Fprintln(in.out, key)
	}
	return nil
}

// verifierKeys asks the gateway, or the key process when no gateway runs.
func verifierKeys(ctx context.Context, places config.Places) ([]string, error) {
	gateway := admin.NewClient(places.Admin.Socket)
	defer gateway.Close()
	keys, err := gateway.VerifierKeys(ctx)
	if !errors.Is(err, admin.ErrNoGateway) {
		return keys, err
	}
	return withKeys(ctx, places, (*keyring.Client).VerifierKeys)
}

// withKeys asks the key process itself.
func withKeys[T any](ctx context.Context, places config.Places, ask func(*keyring.Client, context.Context) (T, error)) (T, error) {
	var none T
	keys, err := keyring.Open(ctx, places.Keys, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return none, fmt.Errorf("reaching the key process: %w", err)
	}
	defer keys.Close()
	return ask(keys, ctx)
}

// signManifest has the manifest of a bundle signed, through the gateway or, when none runs, by the key process itself.
func signManifest(ctx context.Context, places config.Places, sum [32]byte) ([]byte, error) {
	gateway := admin.NewClient(places.Admin.Socket)
	defer gateway.Close()
	note, err := gateway.SignManifest(ctx, sum)
	if !errors.Is(err, admin.ErrNoGateway) {
		return note, err
	}
	return withKeys(ctx, places, func(keys *keyring.Client, ctx context.Context) ([]byte, error) { return keys.SignManifest(ctx, sum) })
}
