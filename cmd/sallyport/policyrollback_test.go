package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/gateway/admin"
)

var keptDigest = "sha256:" + strings.Repeat("ab", 32)

func (g *scripted) Policies(context.Context) ([]admin.KeptPolicy, error) {
	used := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	return []admin.KeptPolicy{
		{Digest: keptDigest, Revision: "r7\x1b[31m", Active: true, Pinned: true, Used: used, Who: "uid:7 ada", Why: "the new one let everybody in"},
		{Digest: "sha256:" + strings.Repeat("cd", 32)},
	}, nil
}

func (g *scripted) UsePolicy(_ context.Context, _ *audit.Actor, what admin.PolicyUse) error {
	if what.Digest == "000000000000" {
		return errors.New("policy 000000000000 was never kept")
	}
	return g.did("use " + what.Digest + " because " + what.Why)
}

func (g *scripted) ReleasePolicy(_ context.Context, _ *audit.Actor, what admin.PolicyRelease) error {
	return g.did("release because " + what.Why)
}
