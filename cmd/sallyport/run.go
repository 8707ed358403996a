package main

import (
	"log/slog"

	"sallyport/gateway/boot"
)

type runCommand struct {
	LogLevel  slog.Level `help:"The least severe messages that are logged: debug, info, warn or error." default:"info"`
	LogFormat string     `help:"How messages are logged on standard error: ${enum}." enum:"text,json" default:"text"`
}

func (c *runCommand) Run(in *invocation) error {
	log := c.logger(in)
	// net/http prints some of what apps do wrong on the standard logger: for whoever debugs an app, and nobody else.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	return boot.Run(in.ctx, in.file, boot.Options{Version: version, Log: log})
}

func (c *runCommand) logger(in *invocation) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(in.errOut, options))
	}
	return slog.New(slog.NewTextHandler(in.errOut, options))
}
