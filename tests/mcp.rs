//! A client of the Model Context Protocol over the standard streams of a program: one JSON-RPC message a line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::{Value, json};

use crate::harness::{Log, PATIENCE, Process};

/// A running program that offers tools.
pub(crate) struct Mcp {
    input: ChildStdin,
    said: Log,
    messages: Receiver<Value>,
    asked: u64,
    _process: Process,
}

impl Mcp {
    /// Starts the program, whose standard streams are piped, and shakes hands with it.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (sender, messages) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            // What is no JSON is for people.
            let lines = output.lines().map_while(Result::ok);
            lines
                .filter_map(|line| serde_json::from_str(&line).ok())
                .all(|message| sender.send(message).is_ok())
        });
        let (input, said) = (child.stdin.take().unwrap(), Log::of(child.stderr.take().unwrap()));
        let mut program = Self { input, said, messages, asked: 0, _process: Process(child) };
        let us = json!({ "name": "mastio-tests", "version": "1" });
        let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": us });
        program.ask("initialize", &hello);
        program.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        program
    }

    /// The names of the tools that it offers.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let listed = self.ask("tools/list", &json!({}));
        let tools = listed["tools"].as_array().unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The text that a tool answers.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> String {
        let result = self.ask("tools/call", &json!({ "name": tool, "arguments": arguments }));
        assert_eq!(result["isError"], false, "{tool}: {result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": self.asked, "method": method, "params": parameters }));
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let mut message = message.unwrap_or_else(|_| panic!("{method}: no answer: {}", self.said.text()));
            if message["id"] == self.asked {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.input, "{message}").unwrap();
        self.input.flush().unwrap();
    }
}
