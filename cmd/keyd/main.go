// Command keyd is the key process: it holds the private keys that the gateway uses and never sees.
//
//	keyd init       make keys, a development CA, certificates and keyd.yaml, or the audit log's keys for an older keyd.yaml
//	keyd run        serve keys
//	keyd encrypt    encrypt the plain key files of a keyd that is stopped
//	keyd passphrase change what opens encrypted key files
//	keyd status     say what a running keyd holds, signed and refused, and what protects it
//	keyd log        print what a running keyd signed and refused lately
//	keyd rotate     have a running keyd make the next key of a name
//	keyd reload     have a running keyd read keyd.yaml and the key files again
//	keyd trust      print the verifier keys of a running keyd's checkpoints and manifests: a trust file
//	keyd new-epoch  let an audit log that cannot continue begin anew, as the declared successor of what was signed
//
// Exit codes: 0 yes, 1 no, 2 usage or cannot run, 3 wrong passphrase or PIN: starting again does not help, and tokens count.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"sallyport/certs/keyd"
)

const defaultConfig = "/etc/sallyport-keyd/keyd.yaml"

type commands struct {
	Init       initCommand       `cmd:"" help:"Make keys, a development CA, certificates and keyd.yaml; where keyd.yaml exists, add the audit log's keys. Overwrites nothing."`
	Run        runCommand        `cmd:"" help:"Serve keys until terminated."`
	Encrypt    encryptCommand    `cmd:"" help:"Encrypt the plain key files, in place, under a passphrase. keyd must be stopped; run this as its user. Interrupted, run it again."`
	Passphrase passphraseCommand `cmd:"" help:"Change the passphrase of the key files. keyd must be stopped; run this as its user."`
	Status     statusCommand     `cmd:"" help:"Say what a running keyd holds, signed and refused, and what protects it."`
	Log        logCommand        `cmd:"" help:"Print what a running keyd signed and refused lately, from its memory."`
	Rotate     rotateCommand     `cmd:"" help:"Have a running keyd make the next key of a name. Only root and keyd's own user may."`
	Reload     reloadCommand     `cmd:"" help:"Have a running keyd read keyd.yaml and the key files again: all or nothing."`
	Trust      trustCommand      `cmd:"" help:"Print the verifier keys of a running keyd's checkpoints and manifests: the lines of a trust file."`
	NewEpoch   epochCommand      `cmd:"" help:"Let an audit log that cannot continue begin anew, as the declared successor of what was signed. keyd must be stopped; run this as its user."`
}

func main() {
	var c commands
	parser := kong.Must(&c, kong.Name("keyd"), kong.Description("The key process of the Sallyport gateway."),
		kong.UsageOnError(), kong.Vars{"config": defaultConfig})
	ctx, err := parser.Parse(os.Args[1:])
	if err == nil {
		err = ctx.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "keyd:", err)
		if errors.Is(err, keyd.ErrWrongSecret) {
			os.Exit(3)
		}
		os.Exit(2)
	}
}

type initCommand struct {
	Dir                  string   `required:"" help:"Folder for keyd.yaml, keys and state." type:"path"`
	Public               string   `help:"Folder for the CA certificate and the chains (default: public in --dir)." type:"path"`
	Domain               string   `help:"What the development CA may vouch for, subdomains included."`
	Host                 []string `help:"Host that gets a key and a certificate; repeat it. Needed unless keyd.yaml exists." sep:"none"`
	Client               []string `help:"Name of the gateway towards apps that ask who it is; gets a key and a certificate of a CA of its own; repeat it." sep:"none"`
	Port                 int      `help:"Public port, part of issuer and audiences." default:"443"`
	Issuer               string   `help:"Issuer of assertions (default: https://auth.DOMAIN[:PORT])."`
	Audience             []string `help:"Origin of an app that assertions may go to (default: each host); repeat it." sep:"none"`
	ClientID             string   `help:"OAuth client id at the identity provider." default:"sallyport"`
	ClientAudience       []string `help:"Token endpoint or issuer that client assertions may go to; repeat it." sep:"none"`
	Origin               string   `help:"What the audit logs' names begin with, the gateway's audit.origin (default: DOMAIN/audit)."`
	Listen               string   `help:"Path of the socket (default: run/keyd.sock in --dir)." type:"path"`
	AllowUID             []uint32 `help:"User id of the gateway (default: yours); repeat it."`
	Encrypt              bool     `help:"Encrypt the key files under a passphrase."`
	PassphraseFile       string   `help:"File with the passphrase, which keyd.yaml will name (default: it is asked for, here and by keyd)." type:"path"`
	PassphraseCredential string   `help:"systemd credential that keyd.yaml will name for the passphrase."`
	Lenient              bool     `help:"Let keyd start where not all its protections hold: for demos and development."`
}

func (c *initCommand) Run() error {
	o := keyd.InitOptions{
		Dir: c.Dir, Public: c.Public, Domain: c.Domain, Hosts: c.Host, Port: c.Port, Issuer: c.Issuer,
		Audiences: c.Audience, ClientID: c.ClientID, ClientAudiences: c.ClientAudience, Listen: c.Listen,
		AllowUIDs: c.AllowUID, Lenient: c.Lenient, Clients: c.Client, Base: c.Origin,
	}
	if err := c.encrypt(&o); err != nil {
		return err
	}
	res, err := keyd.Init(o)
	if err != nil {
		return err
	}
	fmt.Printf("configuration  %s\nsocket         %s\n", res.Config, res.Socket)
	if res.CA != "" {
		fmt.Printf("certificates   %s\nCA to trust    %s\n", res.Certificates, res.CA)
	}
	if res.Trust != "" {
		fmt.Printf("for auditors   %s\n", res.Trust)
	}
	for _, chain := range slices.Sorted(maps.Values(res.ClientChains)) {
		fmt.Printf("for apps       %s\n", chain)
	}
	if res.ClientCA != "" {
		fmt.Printf("CA for apps    %s\n", res.ClientCA)
	}
	return nil
}

type runCommand struct {
	Config string `help:"Path of keyd.yaml." default:"${config}" type:"path"`
	FD     int    `name:"fd" help:"Serve the connection on this inherited descriptor instead of a socket, and exit with it: for demos and development."`

	Credentials string `hidden:"" help:"Folder of systemd's credentials; keyd sets it for itself."`
}

func (c *runCommand) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGHUP) // until keyd can reload, also while it executes itself anew
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if dir := os.Getenv(credentialsVar); dir != "" && c.Credentials == "" {
		c.Credentials = dir
		os.Args = append(os.Args, "--credentials="+dir) // Run executes these anew, without an environment
	}
	return keyd.Run(ctx, keyd.RunOptions{Config: c.Config, FD: c.FD, Credentials: c.Credentials, Log: log})
}

type statusCommand struct {
	Config string `help:"Path of keyd.yaml, for the socket's." default:"${config}" type:"path"`
	Socket string `help:"Path of the socket; the configuration is not read then." type:"path"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *statusCommand) Run() error {
	socket, err := socketOf(c.Socket, c.Config)
	if err != nil {
		return err
	}
	st, err := keyd.AskStatus(socket)
	if err != nil {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(st)
	}
	return keyd.PrintStatus(os.Stdout, st)
}

// socketOf is the path of keyd's socket, from the configuration if it is not given.
func socketOf(given, config string) (string, error) {
	if given != "" {
		return given, nil
	}
	c, err := keyd.LoadConfig(config)
	if err != nil {
		return "", err
	}
	return c.Listen, nil
}

type logCommand struct {
	Config string `help:"Path of keyd.yaml, for the socket's." default:"${config}" type:"path"`
	Socket string `help:"Path of the socket; the configuration is not read then." type:"path"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *logCommand) Run() error {
	socket, err := socketOf(c.Socket, c.Config)
	if err != nil {
		return err
	}
	l, err := keyd.AskSigningLog(socket)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(l)
	}
	return keyd.PrintSigningLog(os.Stdout, l)
}

type trustCommand struct {
	Config string `help:"Path of keyd.yaml, for the socket's." default:"${config}" type:"path"`
	Socket string `help:"Path of the socket; the configuration is not read then." type:"path"`
}

func (c *trustCommand) Run() error {
	socket, err := socketOf(c.Socket, c.Config)
	if err != nil {
		return err
	}
	lines, err := keyd.TrustLines(socket)
	if err != nil {
		return err
	}
	for _, line := range lines {
		fmt.Println(line)
	}
	return nil
}

type epochCommand struct {
	Config string `help:"Path of keyd.yaml." default:"${config}" type:"path"`
	Log    string `help:"Log, such as decision." xor:"log" required:""`
	Origin string `help:"Log by its configured origin, such as corp.example/audit/decision." xor:"log" required:""`
	Last   string `help:"File with the newest signed checkpoint of the log that can be found, where keyd lost its own state of it." type:"existingfile" xor:"word"`
	First  bool   `help:"Nothing was ever signed for this log: it was added to keyd.yaml by hand." xor:"word"`
}

func (c *epochCommand) Run() error {
	o := keyd.EpochOptions{Config: c.Config, Log: c.Log, Origin: c.Origin, First: c.First}
	if c.Last != "" {
		last, err := os.ReadFile(c.Last)
		if err != nil {
			return err
		}
		o.Last = last
	}
	res, err := keyd.NewEpoch(o)
	if err != nil {
		return err
	}
	fmt.Printf("origin in use  %s\n", res.Origin)
	if res.Previous != "" {
		fmt.Printf("it states      %s\n", res.Previous)
	}
	fmt.Printf("for auditors   %s\n", res.VerifierKey)
	return nil
}
