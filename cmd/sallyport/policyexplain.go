package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/gateway/config"
	"sallyport/policy"
	"sallyport/policy/review/explain"
)

// policyExplainCommand tells why a request is answered as it is.
type policyExplainCommand struct {
	ID     string `arg:"" optional:"" help:"The record of the decision: its id, or LOG:SEQ such as decision:1041. Default: the request that the flags describe."`
	Policy string `help:"The policy: ${policy} Default: the configuration's, or for a record the one it names." placeholder:"POLICY"`
	App    string `help:"The app." placeholder:"NAME"`
	Method string `help:"The method." default:"GET"`
	Path   string `help:"The path." default:"/" placeholder:"PATH"`
	asker
	circumstances
	JSON     bool `name:"json" help:"Print JSON." xor:"form"`
	Markdown bool `help:"Print Markdown." xor:"form"`
	Public   bool `help:"Print only what the person themselves is told." xor:"form"`
}

// Help is what the command's own help adds.
func (c *policyExplainCommand) Help() string {
	return `Each rule that may decide is shown with its conditions: "yes" and "NO" tell whether the request meets them, "-" that an
earlier condition settled it. The nearest change of the request that would be allowed was tried before it is told.
The exit code is 0, whatever the policy answers; 1 when there is no such record, app or person.`
}

// Run prints the explanation.
func (c *policyExplainCommand) Run(in *invocation) error {
	x, err := c.explain(in)
	if err != nil {
		return err
	}
	switch {
	case c.JSON:
		return printJSON(in.out, x)
	case c.Public:
		for _, sentence := range x.Public() {
			fmt.Fprintln(in.out, inert(sentence))
		}
		return nil
	}
	var text strings.Builder
	write := x.WriteText
	if c.Markdown {
		write = x.WriteMarkdown
	}
	if err := write(&text); err != nil {
		return err
	}
	_, err = fmt.Fprint(in.out, inertLines(text.String()))
	return err
}

func (c *policyExplainCommand) explain(in *invocation) (*explain.Explanation, error) {
	if c.ID != "" {
		return c.recorded(in)
	}
	if c.App == "" {
		return nil, errors.New("name a record, or describe a request: --app at least")
	}
	p, err := in.openPolicy(c.Policy)
	if err != nil {
		return nil, err
	}
	request, err := c.described(in, p)
	if err != nil {
		return nil, err
	}
	return in.explain(p, c.Policy, request)
}

// described is the request that the flags describe.
func (c *policyExplainCommand) described(in *invocation, p *reviewed) (*policy.Input, error) {
	request, err := requestOf(p, c.App, c.Method, c.Path)
	if err != nil {
		return nil, err
	}
	zone, err := p.Bundle.Zone()
	if err != nil {
		return nil, err
	}
	d, err := c.people(in, c.Policy, p)
	if err != nil {
		return nil, err
	}
	now := c.now(zone)
	if request.Subject, err = c.subject(in, d, now); err != nil {
		return nil, err
	}
	if err := c.apply(request, d, now, zone); err != nil {
		return nil, err
	}
	return request, request.Bound()
}

// explain explains, with the places of access rules where the configuration is that of the policy.
func (in *invocation) explain(p *reviewed, spec string, request *policy.Input) (*explain.Explanation, error) {
	options := explain.Options{File: func(module string) string { return regoFile(p, module) }}
	if file := in.configurationOf(spec, p); file != "" {
		lines := accessLines(file)
		options.Rule = func(app string, place int) explain.Position {
			if at := lines[app]; place < len(at) {
				return explain.Position{File: nearer(file), Line: at[place]}
			}
			return explain.Position{}
		}
	}
	return explain.For(in.ctx, p.Engine, request, options)
}

// regoFile is a module of the operator's as a file, where the bundle is a folder.
func regoFile(p *reviewed, module string) string {
	name := strings.TrimPrefix(module, "operator/")
	if p.Config == nil {
		return name
	}
	if file := filepath.Join(p.Config.Policy.Bundle, name); exists(file) {
		return nearer(file)
	}
	return name
}

// configurationOf is the file that a policy's access rules stand in; "" when it is not at hand.
func (in *invocation) configurationOf(spec string, p *reviewed) string {
	file := in.file
	if own := filepath.Join(spec, configName); exists(own) {
		file = own
	} else if strings.HasSuffix(spec, ".yaml") || strings.HasSuffix(spec, ".yml") {
		file = spec
	}
	_, now, err := in.review(file, "")
	if err != nil {
		return ""
	}
	if string(now.Data()) != string(p.Bundle.Data()) {
		return ""
	}
	return file
}

// accessLines are the lines of a configuration file on which the access rules of each app begin.
func accessLines(file string) map[string][]int {
	var config struct {
		Apps []struct {
			Name   string    `yaml:"name"`
			Access yaml.Node `yaml:"access"`
		} `yaml:"apps"`
	}
	text, err := os.ReadFile(file)
	if err != nil || yaml.Unmarshal(text, &config) != nil {
		return nil // the explanation does without
	}
	lines := map[string][]int{}
	for _, app := range config.Apps {
		rules := []*yaml.Node{&app.Access}
		if app.Access.Kind == yaml.SequenceNode {
			rules = app.Access.Content
		}
		for _, rule := range rules {
			lines[app.Name] = append(lines[app.Name], rule.Line)
		}
	}
	return lines
}

// recorded explains a decision on record under the policy that took it, or another one.
func (c *policyExplainCommand) recorded(in *invocation) (*explain.Explanation, error) {
	if c.App != "" || c.User != "" {
		return nil, errors.New("name a record or describe a request, not both")
	}
	places, err := in.announce(admin.Reading{Command: "policy explain", Log: "both", Filter: map[string]string{"id": c.ID}})
	if err != nil {
		return nil, err
	}
	source, err := openSource(places.Audit.Dir)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	_, entry, err := source.find(in, places, c.ID)
	if err != nil {
		return nil, err
	}
	record := entry.Record
	request, err := recordedInput(in, source, places, record)
	if err != nil {
		return nil, err
	}
	spec := cmp.Or(c.Policy, record.Policy.Digest)
	p, err := in.openPolicy(spec)
	if err != nil {
		return nil, err
	}
	x, err := in.explain(p, spec, request)
	if err != nil {
		return nil, no{err}
	}
	x.Record = &explain.Record{ID: record.ID, Time: record.Time, Effect: string(record.Effect), Reason: record.Reason, Policy: record.Policy.Digest}
	return x, nil
}

// recordedInput is what the policy was asked. A decision that was taken again holds only what had changed since.
func recordedInput(in *invocation, source *auditSource, places config.Places, r *audit.Record) (*policy.Input, error) {
	switch {
	case r.Type == audit.TypeReevaluated:
		var again struct {
			Of      string          `json:"of"`
			Changed json.RawMessage `json:"changed"`
		}
		if err := json.Unmarshal(r.Detail, &again); err != nil {
			return nil, fmt.Errorf("reading record %s: %w", r.ID, err)
		}
		_, first, err := source.find(in, places, again.Of)
		if err != nil {
			return nil, err
		}
		return policy.ParseChanged(first.Record.Input, again.Changed)
	case len(r.Input) == 0:
		return nil, no{fmt.Errorf("record %s is no decision of the policy: it is of type %s, reason %s", r.ID, r.Type, cmp.Or(r.Reason, "none"))}
	}
	return policy.ParseInput(r.Input)
}
