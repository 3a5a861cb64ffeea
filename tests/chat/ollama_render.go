// Renders Ollama's templates as Ollama does (its template package): of each talk, all system texts together and the
// messages. Standard input: {"template": ..., "talks": [[{"Role": ..., "Content": ...}, ...], ...]}; output: the texts.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	var given struct {
		Template string
		Talks    [][]Message
	}
	check(json.NewDecoder(os.Stdin).Decode(&given))
	parsed, err := template.New("").Option("missingkey=zero").Parse(given.Template)
	check(err)
	texts := []string{}
	for _, talk := range given.Talks {
		system := []string{}
		for _, message := range talk {
			if message.Role == "system" {
				system = append(system, message.Content)
			}
		}
		var text strings.Builder
		check(parsed.Execute(&text, map[string]any{"System": strings.Join(system, "\n\n"), "Messages": talk}))
		texts = append(texts, text.String())
	}
	check(json.NewEncoder(os.Stdout).Encode(texts))
}
