// Command sallyport is the gateway and its command line.
//
//	sallyport init               write a commented configuration to start from
//	sallyport check              tell whether the configuration would start
//	sallyport run                serve
//	sallyport reload             make the running gateway read its configuration again
//	sallyport status             describe the running gateway
//	sallyport backup             copy the running gateway's state
//	sallyport config schema|show
//	sallyport session list|revoke
//	sallyport token list|revoke
//	sallyport certificate list|renew|revoke
//	sallyport policy activate|build|check|diff|explain|list|rollback|shadow|show|test|unpin|verify|what-can|who-can
//	sallyport audit tail|query|export|bundle|copy|verify|prove|receipt|trust|tiles|report|review|reindex
//	sallyport version
//
// Exit codes: 0 yes, 1 no, 2 usage or cannot run; audit verify has more, see package audit/verify.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is stamped by the linker.
var version = "unknown"

type commands struct {
	File string `name:"config" short:"c" help:"The configuration file." env:"SALLYPORT_CONFIG" default:"/etc/sallyport/sallyport.yaml" placeholder:"FILE" type:"path"`

	Init        initCommand        `cmd:"" help:"Write a commented configuration to start from. Overwrites nothing."`
	Check       checkCommand       `cmd:"" help:"Tell whether the configuration would start, and everything that is wrong with it."`
	Run         runCommand         `cmd:"" help:"Serve until terminated; SIGHUP reloads."`
	Reload      reloadCommand      `cmd:"" help:"Make the running gateway read its configuration again."`
	Status      statusCommand      `cmd:"" help:"Describe the running gateway."`
	Backup      backupCommand      `cmd:"" help:"Copy the running gateway's state into a file."`
	Config      configCommand      `cmd:"" help:"The configuration: its schema, and what is in effect."`
	Session     sessionCommand     `cmd:"" help:"Sign-in sessions of the running gateway."`
	Token       tokenCommand       `cmd:"" help:"Personal access tokens that people made in the portal."`
	Cache       cacheCommand       `cmd:"" help:"Answers that the running gateway has stored."`
	Upstream    upstreamCommand    `cmd:"" help:"The addresses of the apps."`
	Certificate certificateCommand `cmd:"" help:"Certificates that the running gateway obtains by ACME."`
	Policy      policyCommand      `cmd:"" help:"The policy: check, test and explain it, and see what a change of it would change."`
	Audit       auditCommand       `cmd:"" help:"The audit logs. Every read is itself on record."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
}

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }

// execute runs one command line and returns its exit code.
func execute(args []string, out, errOut io.Writer) int {
	var c commands
	code := -1
	parser := kong.Must(&c, kong.Name("sallyport"), kong.Description("A zero-trust access gateway."),
		kong.Vars{"policy": policyHelp}, kong.Writers(out, errOut), kong.Exit(func(int) { code = exitYes }), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	parsed, err := parser.Parse(args)
	if code == exitYes { // help was asked for, and given
		return code
	}
	if err != nil {
		fmt.Fprintf(errOut, "sallyport: %s\nsallyport --help lists the commands.\n", err)
		return exitCannot
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return exitCode(parsed.Run(&invocation{ctx: ctx, file: c.File, out: out, errOut: errOut}), errOut)
}

// invocation is what every command gets.
type invocation struct {
	ctx         context.Context // ends with SIGINT and SIGTERM
	file        string          // the configuration
	out, errOut io.Writer
}

// The exit codes.
const (
	exitYes    = 0
	exitNo     = 1
	exitCannot = 2
)

// no is an answer, not a failure: the configuration is wrong, nothing matched, the gateway is not ready.
type no struct{ error }

func exitCode(err error, errOut io.Writer) int {
	if err == nil {
		return exitYes
	}
	if text := inertLines(err.Error()); text != "" {
		fmt.Fprintln(errOut, text)
	}
	if _, answered := errors.AsType[no](err); answered {
		return exitNo
	}
	if v, said := errors.AsType[verdict](err); said {
		return int(v)
	}
	return exitCannot
}
