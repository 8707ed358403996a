package lint

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Places are where a configuration file says what, and which findings its comments answer.
type Places struct {
	file     string
	apps     map[string]*yaml.Node
	answered map[int][]string // by line
}

// ReadPlaces reads the text of a configuration file. What is no configuration has no places.
func ReadPlaces(file string, text []byte) *Places {
	p := &Places{file: file, apps: make(map[string]*yaml.Node), answered: make(map[int][]string)}
	line := 0
	for content := range strings.Lines(string(text)) {
		line++
		if _, comment, found := strings.Cut(content, "#"); found {
			p.answer(line, comment)
		}
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil || len(document.Content) == 0 {
		return p
	}
	if apps := under(document.Content[0], "apps"); apps != nil {
		for _, app := range apps.Content {
			if name := under(app, "name"); name != nil {
				p.apps[name.Value] = app
			}
		}
	}
	return p
}

func (p *Places) answer(line int, comment string) {
	if id := answeredBy(comment); id != "" {
		p.answered[line] = append(p.answered[line], id)
	}
}

// of finds a key of an access rule, else the rule, else the app, else the file. A place below 0 is the app.
func (p *Places) of(app string, place int, key string) Position {
	n := p.apps[app]
	if n == nil {
		return Position{File: p.file}
	}
	if rule := accessRule(n, place); rule != nil {
		n = rule
	}
	if named := under(n, key); named != nil {
		n = named
	}
	return Position{p.file, n.Line, n.Column}
}

// accessRule is a rule of an app: access is one rule or a list of them.
func accessRule(app *yaml.Node, place int) *yaml.Node {
	access := under(app, "access")
	switch {
	case access == nil || place < 0:
		return nil
	case access.Kind == yaml.SequenceNode && place < len(access.Content):
		return access.Content[place]
	}
	return access
}

// under is the value of a key; nil when there is none.
func under(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
