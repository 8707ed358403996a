// Command demo runs everything on this machine: a local OpenID provider with a handful of people, three small apps, and
// the gateway before them, at https://*.sallyport.localhost:8443. The gateway and the key process are the real programs,
// started from the folder of the demo's own binary; the demo itself holds none of their keys.
//
//	demo [--listen ADDR] [--dir DIR] [--no-browser]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type options struct {
	Listen    string `help:"Loopback address and port of the gateway; port 0 picks a free one." default:"127.0.0.1:8443" placeholder:"ADDR"`
	Dir       string `help:"Folder for keys, configuration, sessions and audit log, kept for the next start. Default: a temporary one, removed at the end." type:"path" placeholder:"DIR"`
	NoBrowser bool   `help:"Do not open a browser."`
}

func main() {
	var opts options
	kong.Parse(&opts, kong.Name("demo"), kong.Description("Sallyport on one machine, with people and apps to try it on. Ctrl-C stops everything."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{opts: opts, out: os.Stdout, errOut: os.Stderr}
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
