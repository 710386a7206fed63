// The official openai SDK for Node against a gateway: prints what came, as JSON. Arguments: base URL, model.
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const asked = [];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather in a city",
    parameters,
    parse: JSON.parse,
    function: ({ city }) => {
      asked.push(city);
      return `sunny in ${city}`;
    },
  },
};

async function job(stream) {
  asked.length = 0;
  const messages = user("What is the weather in Paris and London? [[sim:steps=2]]");
  const runner = client.chat.completions.runTools({ model, stream, messages, tools: [weather] });
  return { text: await runner.finalContent(), asked: [...asked], answers: runner.allChatCompletions().length };
}

async function streamed() {
  const options = { model, messages: user("Hello"), n: 2, stream_options: { include_usage: true } };
  const stream = client.chat.completions.stream(options);
  const final = await stream.finalChatCompletion();
  return { texts: final.choices.map((choice) => choice.message.content), total: final.usage.total_tokens };
}

async function broken(marker) {
  let text = "";
  try {
    const request = { model, stream: true, messages: user(`[[sim:words=40]] [[sim:${marker}]]`) };
    for await (const chunk of await client.chat.completions.create(request)) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
  } catch (error) {
    return { text, error: error.constructor.name, message: error.message, status: error.status ?? null };
  }
  return { text };
}

const schema = {
  name: "person",
  strict: true,
  schema: {
    type: "object",
    properties: { name: { type: "string" }, age: { type: "integer" } },
    required: ["name", "age"],
    additionalProperties: false,
  },
};
const structured = await client.chat.completions.create({
  model,
  messages: user("Ada is 36"),
  response_format: { type: "json_schema", json_schema: schema },
});
const models = [];
for await (const one of client.models.list()) models.push(one.id);

console.log(
  JSON.stringify({
    unary: await job(false),
    stream: await job(true),
    two: await streamed(),
    cut: await broken("cut"),
    wrong: await broken("400"),
    person: JSON.parse(structured.choices[0].message.content),
    models,
  }),
);
