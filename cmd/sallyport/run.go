package main

import (
	"io"
	"log/slog"

	"sallyport/gateway/boot"
)

type runCommand struct {
	LogLevel  slog.Level `help:"The least severe messages that are logged: debug, info, warn or error." default:"info"`
	LogFormat string     `help:"How messages are logged on standard error: ${enum}." enum:"text,json" default:"text"`
}

func (c *runCommand) Run(in *invocation) error {
	out := newLogWriter(in.errOut)
	defer out.Close()
	log := c.logger(out)
	out.lost = func(lines int) { log.Warn("log lines were lost: standard error is read too slowly", "lines", lines) }
	// net/http prints some of what apps do wrong on the standard logger: for whoever debugs an app, and nobody else.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	return boot.Run(in.ctx, in.file, boot.Options{Version: version, Log: log})
}

func (c *runCommand) logger(out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(inertJSON{out}, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}
